"""Networks trained on ImageNet, cut at any layer: one record each.

Records are plain data: importing them imports neither JAX nor NumPy, so that `cervix_jax.config` can take its choices
from here.
"""

from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.backbones.spec import Architecture

# Values of `config.model.backbone.name`.
BACKBONES: dict[str, Architecture] = {
    "resnet50": RESNET50,
    "resnet50_v1_5": RESNET50_V1_5,
    "inception_v3": INCEPTION_V3,
}
