"""Finds the cervix: one box per photograph, from the boxes that people drew (`boxes.csv` in the raw folder).

ResNet-50 up to conv4, its later stages fine-tuned, and a head whose locations vote for the box. `crossvalidate` trains
one a fold; other runs see photographs through them with `--config.dataset.crop=WORKDIR`.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.task = "localise"
    config.epochs = 10
    config.batch_size = 16
    config.dataset.name = "cervix/initial"
    config.dataset.image_size = (160, 128)
    config.augmentation.translation = 0.15
    config.augmentation.zoom = 0.35
    config.augmentation.rotation = 30.0
    config.augmentation.color_jitter = 0.2
    config.model.name = "box_voting"
    config.model.backbone.cut = "conv4_block3_out"
    config.model.backbone.trainable = ("conv3", "conv4")
    config.optimizer.learning_rate = 3e-4
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.schedule = "cosine"
    config.optimizer.l2 = 1e-4
    config.optimizer.ema_decay = 0.99
    return config
