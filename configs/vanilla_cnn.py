"""The report's baseline without transfer (section 6): 14 convolutions, 3 dense layers, no augmentation.

Trained on the initial photographs. The report's validation loss and accuracy: 0.9723 and 51.52 %.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config() -> ml_collections.ConfigDict:
    return variants.get_config("vanilla_cnn")
