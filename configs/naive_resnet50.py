"""The report's naive transfer from ResNet-50 (section 6): convolution and dense layers on its last feature map.

Trained on the initial photographs. The report's validation loss and accuracy: 1.0963 and 59.12 %.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config() -> ml_collections.ConfigDict:
    return variants.get_config("naive_resnet50")
