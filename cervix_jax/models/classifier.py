"""A photograph classifier: normalise as the weights want, backbone, head; and how to build one from its options."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from cervix_jax.models.backbones.backbone import Architecture, Backbone
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.preprocessing import PREPROCESSING
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.heads.inception_residual import InceptionResidualHead
from cervix_jax.models.heads.naive_transfer import NaiveTransferHead
from cervix_jax.models.heads.vanilla_cnn import VanillaCNN
from cervix_jax.models.layers import BatchNorm, Bias, TrainingPass

ARCHITECTURES: dict[str, Architecture] = {
    "resnet50": RESNET50,
    "resnet50_v1_5": RESNET50_V1_5,
    "inception_v3": INCEPTION_V3,
}


class Classifier(nn.Module):
    """Photographs to logits.

    Variables: `params` and `batch_stats` of `backbone` and `head`; `constants` with `mean_image` where the
    preprocessing is 'mean_image'.

    Attributes:
      head: features to (logits, end points).
      backbone: normalised photographs to (features, end points); None for a head that reads the photograph itself.
      dtype: of the computation, float32 or bfloat16; parameters, statistics and logits are float32.
    """

    head: nn.Module
    backbone: Backbone | None = None
    dtype: DTypeLike = jnp.float32

    @property
    def preprocessing(self) -> str:
        """A name in `PREPROCESSING`, as the backbone's weights want it.

        Without a backbone 'mean_image': subtract the training set's mean photograph and divide by 64, so that numbers
        are of order 1 (report section 5.1, vanilla CNNs).
        """
        return "mean_image" if self.backbone is None else self.backbone.architecture.preprocessing

    @property
    def trained_layers(self) -> frozenset[str]:
        """Layers of the backbone whose parameters are trained."""
        if self.backbone is None:
            return frozenset()
        layers = self.backbone.architecture.needed(self.backbone.cut)
        return frozenset(layer.name for layer in layers if layer.stage in self.backbone.trained)

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"] | UInt8[Array, "b h w 3"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Returns logits and every named end point of backbone and head.

        Args:
          images: RGB, 0 to 255.
          training: None in evaluation; otherwise batch norm is by the batch, except in frozen stages of the backbone.
          perturbations: added to end points by name, see `EndPoints`.
        """
        x = images.astype(jnp.float32)
        if self.backbone is None:
            mean = self.variable("constants", "mean_image", jnp.zeros, x.shape[1:], jnp.float32)
            x = (x - mean.value) / 64
        else:
            x = PREPROCESSING[self.preprocessing](x)
        x = x.astype(self.dtype)
        end_points: dict[str, Array] = {}
        if self.backbone is not None:
            x, end_points = self.backbone(x, training=training, perturbations=perturbations)
            x = nn.relu(x)  # a cut such as conv1_bn ends before its activation; after one this changes nothing
        logits, head_points = self.head(x, training=training, perturbations=perturbations)
        return logits, end_points | head_points


def make_classifier(options: Mapping[str, Any], num_classes: int = 3) -> Classifier:
    """The classifier that `config.model` describes.

    Raises:
      EndPointError: the backbone has no such layer to be cut at, or no such stage to be trained; names the nearest.
    """
    name, dtype = options["name"], jnp.dtype(options["dtype"])
    regular = {"dropout_rate": options["dropout_rate"], "norm": BatchNorm if options["batch_norm"] else Bias}
    if name == "vanilla_cnn":
        return Classifier(VanillaCNN(num_classes, **regular), None, dtype)
    backbone = make_backbone(options["backbone"])
    if name == "naive_transfer":
        return Classifier(NaiveTransferHead(num_classes, **regular), backbone, dtype)
    head = InceptionResidualHead(
        stem=backbone is None,
        num_classes=num_classes,
        widths=tuple(options["widths"]),
        blocks=tuple(options["blocks"]),
        remat=options["remat"],
        **regular,
    )
    return Classifier(head, backbone, dtype)


def make_backbone(options: Mapping[str, Any]) -> Backbone | None:
    """The backbone that `config.model.backbone` describes; None for 'none'.

    Raises:
      EndPointError: see `make_classifier`.
    """
    if options["name"] == "none":
        return None
    architecture = ARCHITECTURES[options["name"]]
    cut = architecture.end_point(options["cut"])
    return Backbone(architecture, cut, architecture.trained_stages(options["trainable"], cut))
