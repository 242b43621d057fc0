"""The network of a run: normalise photographs as the weights need it, backbone, head; built from `config.model`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone, preprocess
from cervix_jax.models.heads import HEADS
from cervix_jax.models.layers import TrainingPass


class Classifier(nn.Module):
    """Photographs to the output of a head: logits.

    Variables: `params` and `batch_stats` of `backbone` and `head`; `constants` with `mean_image` where the
    preprocessing is 'mean_image'.

    Attributes:
      head: features to (output, end points).
      backbone: normalised photographs to (features, end points); None for a head that reads photographs.
      dtype: of the computation, float32 or bfloat16; parameters, statistics and outputs are float32.
    """

    head: nn.Module
    backbone: Backbone | None = None
    dtype: DTypeLike = jnp.float32

    @property
    def preprocessing(self) -> str:
        """Name of the backbone's `Preprocessing`, or 'mean_image' without a backbone.

        'mean_image' subtracts the training set's mean photograph and divides by 64, so that inputs are of order 1
        (report section 5.1, vanilla CNNs).
        """
        return "mean_image" if self.backbone is None else self.backbone.architecture.weights.preprocessing.name

    @property
    def trained_layers(self) -> frozenset[str]:
        """Names of the backbone's layers whose parameters are trained."""
        if self.backbone is None:
            return frozenset()
        layers = self.backbone.architecture.layers_up_to(self.backbone.cut)
        return frozenset(layer.name for layer in layers if layer.stage in self.backbone.trained)

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"] | UInt8[Array, "b h w 3"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Returns the head's output and every named end point of backbone and head.

        Args:
          images: RGB, 0 to 255.
          training: None in evaluation; otherwise batch norm uses the batch's statistics, except in frozen stages.
          perturbations: added to end points by name, see `EndPoints`.
        """
        x = images.astype(jnp.float32)
        end_points: dict[str, Array] = {}
        if self.backbone is None:
            mean = self.variable("constants", "mean_image", jnp.zeros, x.shape[1:], jnp.float32)
            x = ((x - mean.value) / 64).astype(self.dtype)
        else:
            x = preprocess(x, self.backbone.architecture.weights.preprocessing).astype(self.dtype)
            x, end_points = self.backbone(x, training=training, perturbations=perturbations)
            x = nn.relu(x)  # a cut such as conv1_bn ends before its activation; after one this changes nothing
        output, head_points = self.head(x, training=training, perturbations=perturbations)
        return output, end_points | head_points


def make_classifier(options: Mapping[str, Any], num_classes: int = 3) -> Classifier:
    """The classifier that `config.model` describes.

    Options that the head does not read are ignored here, so that runs recorded with any can be restored;
    `config.validate` refuses them for training.

    Raises:
      EndPointError: the backbone has no layer of the cut's name, or no stage to be trained; names the nearest.
    """
    head = HEADS[options["name"]]
    backbone = None if head.backbone == "unsupported" else make_backbone(options["backbone"])
    head_class = head.load()
    attributes = {name: options[name] for name in head.options} | {"num_classes": num_classes, "stem": backbone is None}
    fields = {field.name for field in dataclasses.fields(head_class)}
    attributes = {
        name: tuple(value) if isinstance(value, list) else value  # from JSON; jit needs what can be hashed
        for name, value in attributes.items()
        if name in fields or name in head.options
    }
    return Classifier(head_class(**attributes), backbone, jnp.dtype(options["dtype"]))


def make_backbone(options: Mapping[str, Any]) -> Backbone | None:
    """The backbone that `config.model.backbone` describes; None for 'none'.

    Raises:
      EndPointError: see `make_classifier`.
    """
    if options["name"] == "none":
        return None
    architecture = BACKBONES[options["name"]]
    cut = architecture.end_point(options["cut"])
    trained = architecture.trained_stages(options["trainable"], cut)
    return Backbone(architecture, cut, trained, options["frozen_norm"])
