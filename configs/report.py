"""The report's best single system (sections 7, 10 and 11): frozen ResNet-50 to `conv1_bn`, Inception-residual head.

It trains on the initial and the cleaned additional photographs, `cervix/cleaned`. Without additional photographs:
`--config.dataset.name=cervix/initial`. The report's validation loss and accuracy: 0.7157 and 69.93 %.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config() -> ml_collections.ConfigDict:
    return variants.get_config("report")
