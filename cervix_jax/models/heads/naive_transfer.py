"""The report's naive transfer: a few convolution and affine layers on a backbone's features (report section 6).

The report gives no details; here two 3x3 convolutions with batch norm, global average pooling and two affine layers.
"""

from collections.abc import Mapping
from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.models.layers import (
    Conv3x3,
    ConvNormAct,
    EndPoints,
    TrainingPass,
    at_least_float32,
    dropout,
    norm_layer,
)


class NaiveTransferHead(nn.Module):
    """Backbone features to logits.

    Attributes:
      num_classes: number of logits.
      convolutions: channels of each convolution.
      affine: width of the affine layer before the logits.
      dropout_rate: probability of dropping a feature before the logits (report section 7: 0.4).
      batch_norm: normalise after convolutions (report section 5.2); otherwise add a bias.
    """

    num_classes: int = 3
    convolutions: tuple[int, ...] = (256, 256)
    affine: int = 256
    dropout_rate: float = 0.4
    batch_norm: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Returns logits and named end points: `convN`, `features`, `logits`."""
        end_points, norm = EndPoints(perturbations), norm_layer(self.batch_norm)
        for i, width in enumerate(self.convolutions, start=1):
            layer = ConvNormAct(partial(Conv3x3, width), norm, name=f"conv{i}")
            x = end_points.name(f"conv{i}", layer(x, training=training))
        x = nn.relu(nn.Dense(self.affine, name="affine1")(at_least_float32(x).mean(axis=(1, 2))))
        x = end_points.name("features", x)
        x = dropout(x, self.dropout_rate, training)
        logits = end_points.name("logits", nn.Dense(self.num_classes, name="affine2")(x))
        return logits, dict(end_points)
