"""The report's network without a pretrained one before it (section 11.1, 'None'): the head reads the photograph.

The report's validation loss and accuracy, with its cleaned additional data: 0.8016 and 63.51 %.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.dataset.name = "cervix/initial"
    config.batch_size = 16
    config.model.backbone.name = "none"
    return config
