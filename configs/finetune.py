"""The network of `best.py`, fine-tuned from a run on 50 to 200 photographs of one's own: last stage and head alone.

Give it the run, `--config.init.workdir=runs/best --config.dataset.crop=init`, and the photographs; train a run a fold.
"""

import ml_collections

from cervix_jax import config as defaults


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.epochs = 20
    config.batch_size = 16
    config.dataset.name = "cervix/initial"
    config.dataset.image_size = (128, 112)
    config.model.backbone.cut = "conv3_block4_out"
    config.model.backbone.trainable = ("conv3",)
    config.model.widths = (256, 384)
    config.model.blocks = (2, 1)
    config.optimizer.learning_rate = 2e-4
    config.optimizer.backbone_rate = 0.3
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.schedule = "cosine"
    config.optimizer.l2 = 1e-4
    config.optimizer.ema_decay = 0.9
    return config
