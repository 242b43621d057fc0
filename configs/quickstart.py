"""A small network on synthetic photographs: the whole job in minutes on two CPU cores, nothing to download.

The head reads the photograph itself (report section 11.1, 'None'), since synthetic pictures need no ImageNet features.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.epochs = 20
    config.batch_size = 16
    config.dataset.name = "cervix/synthetic"
    config.dataset.image_size = (64, 48)
    config.model.backbone.name = "none"
    config.model.widths = (32, 64, 128)
    config.model.blocks = (1, 1, 1)
    return config
