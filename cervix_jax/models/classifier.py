"""A photograph classifier: normalise as the weights want, backbone, head; and how to build one from its options."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, UInt8

from cervix_jax.models.inception_residual import InceptionResidualHead
from cervix_jax.models.pretrained import PREPROCESSING
from cervix_jax.models.resnet import ResNet50, end_point
from cervix_jax.models.vanilla_cnn import VanillaCNN


class Classifier(nn.Module):
    """Photographs to logits.

    Variables: `params` and `batch_stats` of `backbone` and `head`; `constants` with `mean_image` where the
    preprocessing is 'mean_image'.

    Attributes:
      head: features to (logits, end points).
      backbone: normalised photographs to (features, end points); None for a head that reads the photograph itself.
      preprocessing: a name in `PREPROCESSING`, or 'mean_image': subtract the training set's mean photograph and divide
        by 64, so that numbers are of order 1 (report section 5.1, vanilla CNNs).
    """

    head: nn.Module
    backbone: nn.Module | None = None
    preprocessing: str = "mean_image"

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"] | UInt8[Array, "b h w 3"],
        *,
        train: bool = False,
        dropout_keys: Key[Array, "b"] | None = None,
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Returns logits and every named end point of backbone and head.

        Args:
          images: RGB, 0 to 255.
          train: batch norm on the batch's statistics, except in a frozen backbone.
          dropout_keys: one key an example; None drops nothing.
        """
        x = images.astype(jnp.float32)
        if self.preprocessing == "mean_image":
            mean = self.variable("constants", "mean_image", jnp.zeros, x.shape[1:], jnp.float32)
            x = (x - mean.value) / 64
        else:
            x = PREPROCESSING[self.preprocessing](x)
        end_points: dict[str, Array] = {}
        if self.backbone is not None:
            x, end_points = self.backbone(x, train=train)
            x = nn.relu(x)  # a cut such as conv1_bn ends before its activation; after one this changes nothing
        logits, head_points = self.head(x, train=train, dropout_keys=dropout_keys)
        return logits, end_points | head_points


def make_classifier(options: Mapping[str, Any], num_classes: int = 3) -> Classifier:
    """The classifier that `config.model` describes.

    Raises:
      EndPointError: the backbone has no such layer to be cut at; names the nearest.
    """
    if options["name"] == "vanilla_cnn":
        return Classifier(VanillaCNN(num_classes, dropout_rate=options["dropout_rate"]))
    backbone = options["backbone"]
    head = InceptionResidualHead(
        stem=backbone["name"] == "none",
        num_classes=num_classes,
        widths=tuple(options["widths"]),
        blocks=tuple(options["blocks"]),
        dropout_rate=options["dropout_rate"],
    )
    if backbone["name"] == "none":
        return Classifier(head)
    cut = backbone["cut"]
    cut = end_point(int(cut) if cut.isdigit() else cut)
    return Classifier(head, ResNet50(cut, frozen=backbone["trainable"] == "none"), "caffe")
