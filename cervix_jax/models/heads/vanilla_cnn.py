"""The report's baseline without transfer: 14 sets of convolutions and 3 affine layers (report section 6).

The report gives no widths; here 3x3 convolutions with batch norm and ReLU in five groups, 2x2 max-pooling after each
(as in VGG, Simonyan & Zisserman 2015), widths doubling from 16.
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
    max_pool_2x2,
    norm_layer,
)


class VanillaCNN(nn.Module):
    """Photographs to logits.

    Attributes:
      num_classes: number of logits.
      widths: channels of each group of convolutions.
      convolutions: how many each group has; 14 in all.
      affine: widths of the two affine layers before the logits.
      dropout_rate: probability of dropping a feature before the logits (report section 7: 0.4).
      batch_norm: normalise after convolutions (report section 5.2); otherwise add a bias.
    """

    num_classes: int = 3
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    convolutions: tuple[int, ...] = (2, 3, 3, 3, 3)
    affine: tuple[int, int] = (256, 128)
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
        """Returns logits and named end points: `groupN`, `features`, `logits`."""
        end_points, norm = EndPoints(perturbations), norm_layer(self.batch_norm)
        for group, (width, count) in enumerate(zip(self.widths, self.convolutions, strict=True), start=1):
            for i in range(1, count + 1):
                x = ConvNormAct(partial(Conv3x3, width), norm, name=f"group{group}_conv{i}")(x, training=training)
            x = max_pool_2x2(end_points.name(f"group{group}", x))
        x = at_least_float32(x).reshape(x.shape[0], -1)
        for i, features in enumerate(self.affine, start=1):
            x = nn.relu(nn.Dense(features, name=f"affine{i}")(x))
        x = end_points.name("features", x)
        x = dropout(x, self.dropout_rate, training)
        logits = end_points.name("logits", nn.Dense(self.num_classes, name="affine3")(x))
        return logits, dict(end_points)
