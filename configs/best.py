"""The recommended classifier of cropped photographs: ResNet-50 to conv3, its later stages fine-tuned, on the cervix.

Give it the localisers of all folds, `--config.dataset.crop=runs/localiser`, and train a run a fold: `crossvalidate`.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.epochs = 6
    config.batch_size = 16
    config.dataset.name = "cervix/initial"
    config.dataset.image_size = (128, 112)
    config.model.backbone.cut = "conv3_block4_out"
    config.model.backbone.trainable = ("conv2", "conv3")
    config.model.widths = (256, 384)
    config.model.blocks = (2, 1)
    config.optimizer.learning_rate = 3e-4
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.schedule = "cosine"
    config.optimizer.l2 = 1e-4
    config.optimizer.ema_decay = 0.99
    return config
