"""The report's naive transfer from Inception-v3 (section 6): convolution and dense layers on its last feature map.

Trained on the initial photographs. The report's validation loss and accuracy: 0.8953 and 60.47 %.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config() -> ml_collections.ConfigDict:
    return variants.get_config("naive_inception_v3")
