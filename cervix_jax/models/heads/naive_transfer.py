"""The report's naive transfer: a few convolution and affine layers on a network's features (report section 6).

The report says no more of it; here two 3x3 convolutions with batch norm, the global average, and two affine layers.
"""

from collections.abc import Mapping
from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.models.layers import (
    BatchNorm,
    Conv3x3,
    ConvNormAct,
    EndPoints,
    Norm,
    TrainingPass,
    at_least_float32,
    dropout,
)


class NaiveTransferHead(nn.Module):
    """Backbone features to logits.

    Attributes:
      num_classes: length of the logits.
      convolutions: channels of each convolution.
      affine: features of the affine layer before the logits.
      dropout_rate: report section 7: 0.4.
      norm: BatchNorm, or Bias for none.
    """

    num_classes: int = 3
    convolutions: tuple[int, ...] = (256, 256)
    affine: int = 256
    dropout_rate: float = 0.4
    norm: Norm = BatchNorm

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Returns logits and named end points: `convN`, `features`, `logits`. See InceptionResidualHead."""
        end_points = EndPoints(perturbations)
        for i, width in enumerate(self.convolutions, start=1):
            layer = ConvNormAct(partial(Conv3x3, width), self.norm, name=f"conv{i}")
            x = end_points.name(f"conv{i}", layer(x, training=training))
        x = nn.relu(nn.Dense(self.affine, name="affine1")(at_least_float32(x).mean(axis=(1, 2))))
        x = end_points.name("features", x)
        x = dropout(x, self.dropout_rate, training)
        logits = end_points.name("logits", nn.Dense(self.num_classes, name="affine2")(x))
        return logits, dict(end_points)
