"""A small localiser on synthetic photographs: the box around the cervix, in half a minute on two CPU cores.

The layers before the head start from random weights, since synthetic pictures need no ImageNet features.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.task = "localise"
    config.epochs = 6
    config.batch_size = 16
    config.dataset.name = "cervix/synthetic"
    config.dataset.image_size = (64, 48)
    config.model.name = "box_voting"
    config.model.backbone.cut = "conv2_block1_out"
    config.model.backbone.allow_random = True
    config.model.backbone.trainable = "all"
    config.optimizer.schedule = "cosine"
    return config
