"""The report's baseline without transfer (section 6): 14 sets of convolutions, 3 affine layers, no augmentation.

The report's validation loss and accuracy, on the initial photographs: 0.9723 and 51.52 %.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.dataset.name = "cervix/initial"
    config.batch_size = 16
    config.model.name = "vanilla_cnn"
    config.model.backbone.name = "none"
    config.augmentation.horizontal_flip = False
    config.augmentation.vertical_flip = False
    config.augmentation.translation = 0.0
    config.augmentation.shear = 0.0
    config.augmentation.zoom = 0.0
    return config
