"""The report's network without a pretrained backbone (section 11.1, 'None'): the head reads the photograph itself.

Trained on the initial and the cleaned additional photographs. The report's validation loss and accuracy: 0.8016 and
63.51 %.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config() -> ml_collections.ConfigDict:
    return variants.get_config("no_backbone")
