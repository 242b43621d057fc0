"""A head that finds one box: every location of the feature map votes, and the votes are averaged by attention.

Each location predicts its distances to the four sides of the box, as in FCOS (Tian et al. 2019, section 3.1), and how
much its vote counts. There is exactly one cervix to find, so instead of scoring and suppressing many boxes the head
returns the mean of the votes under the softmax of their weights (a soft-argmax), which is differentiable and lies
between cells. It also predicts how well the box will overlap the true one, as IoU-Net does (Jiang et al. 2018).
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.models.layers import (
    BiasedPointwiseConv,
    Conv3x3,
    ConvNormAct,
    EndPoints,
    PointwiseConv,
    TrainingPass,
    at_least_float32,
    dropout,
    norm_layer,
)

START = 0.2  # distance from a location to each side that an untrained head predicts: fractions of the photograph


class BoxVotingHead(nn.Module):
    """Backbone features to a box and its expected overlap.

    Attributes:
      width: channels of its convolutions.
      dropout_rate: probability of dropping a feature before the expected overlap.
      batch_norm: normalise after convolutions; otherwise add a bias.
    """

    width: int = 128
    dropout_rate: float = 0.4
    batch_norm: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b 5"], dict[str, Array]]:
        """Returns boxes and end points.

        The output is left, top, right, bottom as fractions of the photograph, unclipped, and the logit of the expected
        IoU. End points are `convN`; `vote_logits` [b h w], the weights of the votes before the softmax; `votes`
        [b h w 4], the box that each location votes for; `features` [b c], pooled by the weights; `box`.
        """
        end_points, norm = EndPoints(perturbations), norm_layer(self.batch_norm)
        x = end_points.name(
            "conv1", ConvNormAct(partial(PointwiseConv, self.width), norm, name="conv1")(x, training=training)
        )
        for i in (2, 3):
            block = ConvNormAct(partial(Conv3x3, self.width), norm, name=f"conv{i}")
            x = end_points.name(f"conv{i}", x + block(x, training=training))
        context = nn.relu(nn.Dense(self.width, name="context")(at_least_float32(x).mean(axis=(1, 2))))
        x = at_least_float32(x) + context[:, None, None]
        raw = BiasedPointwiseConv(5, name="votes")(x)
        logits = end_points.name("vote_logits", raw[..., 0])
        votes = end_points.name("votes", _locations(*raw.shape[1:3]) + _signed(raw[..., 1:]))
        weights = jax.nn.softmax(logits, axis=(1, 2))[..., None]
        box = (weights * votes).sum(axis=(1, 2))
        features = end_points.name("features", (weights * x).sum(axis=(1, 2)))
        overlap = nn.Dense(1, name="overlap")(dropout(jax.lax.stop_gradient(features), self.dropout_rate, training))
        return end_points.name("box", jnp.concatenate([box, overlap], axis=-1)), dict(end_points)


def _locations(height: int, width: int) -> Float[Array, "h w 4"]:
    """(x, y, x, y) of the centre of each cell of the feature map, as fractions of the photograph."""
    y, x = jnp.meshgrid((jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width, indexing="ij")
    return jnp.stack([x, y, x, y], axis=-1)


def _signed(raw: Float[Array, "b h w 4"]) -> Float[Array, "b h w 4"]:
    """Positive distances, as offsets: left and up, right and down."""
    start = jnp.log(jnp.expm1(START))
    return jax.nn.softplus(raw + start) * jnp.array([-1.0, -1.0, 1.0, 1.0])
