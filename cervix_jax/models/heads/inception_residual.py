"""The report's own network: an Inception-like residual head on the features of a backbone (report section 7).

The report's figure of it is lost, so this follows the paper that it names the idea of: Szegedy et al. 2016,
"Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning": parallel branches (1x1, 3x3, a 5x5
factorised into two 3x3, pooling) concatenated, a linear 1x1 projection, added to the input; reductions between the
stages, max-pooling beside a strided convolution; global average pooling, dropout, softmax. The residuals are not scaled
down: the paper needs that above 1000 filters (section 3.3), and here it only slows learning. Widths are ours, chosen so
that each stage costs about the same and the large maps stay cheap.
"""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.models.layers import (
    BatchNorm,
    BiasedPointwiseConv,
    Conv3x3,
    ConvNormAct,
    EndPoints,
    Norm,
    PatchConv,
    PointwiseConv,
    TrainingPass,
    at_least_float32,
    average_pool_3x3,
    dropout,
    max_pool_2x2,
)


class InceptionResidualBlock(nn.Module):
    """x + project(concatenate(1x1, 3x3, 5x5, pool)), then ReLU; channels stay as they are.

    The four branches begin with one 1x1 convolution, computed as a single product and split: four small products of the
    same input cost more than one.

    Attributes:
      norm: of the branches.
    """

    norm: Norm = BatchNorm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, training: TrainingPass | None) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        width = channels // 4
        conv_norm_act = partial(ConvNormAct, norm=self.norm)
        mixed = conv_norm_act(partial(PointwiseConv, 4 * width), name="branches")(x, training=training)
        one, three, five, pool = jnp.split(mixed, 4, axis=-1)
        three = conv_norm_act(partial(Conv3x3, width), name="three")(three, training=training)
        five = conv_norm_act(partial(Conv3x3, width), name="five_a")(five, training=training)
        five = conv_norm_act(partial(Conv3x3, width), name="five_b")(five, training=training)
        mixed = jnp.concatenate([one, three, five, average_pool_3x3(pool)], axis=-1)
        residual = BiasedPointwiseConv(channels, name="project")(mixed)
        return nn.relu(x + residual)


class Reduction(nn.Module):
    """Half height and width: max-pooling beside a strided convolution, concatenated, batch norm, ReLU.

    The pooled channels pass as they are if they are at most half of the result, else they are projected to half.

    Attributes:
      features: channels of the result.
      norm: of the result.
    """

    features: int
    norm: Norm = BatchNorm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, training: TrainingPass | None) -> Float[Array, "b h2 w2 c2"]:
        pooled = max_pool_2x2(x)
        if pooled.shape[-1] > self.features // 2:
            pooled = PointwiseConv(self.features // 2, name="pooled")(pooled)
        patches = PatchConv(self.features - pooled.shape[-1], name="patches")(x)
        x = jnp.concatenate([pooled, patches], axis=-1)
        return nn.relu(self.norm(name="norm")(x, training))


class InceptionResidualHead(nn.Module):
    """Backbone features (or photographs) to logits.

    Attributes:
      stem: begin with a 3x3 convolution to half of the first width; for photographs, whose three channels hold no
        shapes that a reduction could keep.
      num_classes: length of the logits.
      widths: channels of each stage; a stage halves height and width first. Multiples of 4.
      blocks: residual blocks of each stage.
      dropout_rate: report section 7: 0.4.
      norm: BatchNorm, or Bias for none (report section 5.2).
      remat: compute blocks again in the backward pass instead of keeping their results.
    """

    stem: bool = False
    num_classes: int = 3
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    dropout_rate: float = 0.4
    norm: Norm = BatchNorm
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Returns logits and named end points: `stem` if there is one, `stageN_blockM`, `features` (pooled), `logits`.

        Args:
          x: feature maps.
          training: None in evaluation: batch norm on stored statistics, no dropout.
          perturbations: see `EndPoints`.
        """
        end_points = EndPoints(perturbations)
        if self.stem:
            stem = ConvNormAct(partial(Conv3x3, self.widths[0] // 2), self.norm, name="stem")
            x = end_points.name("stem", stem(x, training=training))
        make_block = nn.remat(InceptionResidualBlock) if self.remat else InceptionResidualBlock
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True), start=1):
            x = Reduction(width, self.norm, name=f"stage{stage}_reduce")(x, training=training)
            for block in range(1, blocks + 1):
                name = f"stage{stage}_block{block}"
                x = end_points.name(name, make_block(self.norm, name=name)(x, training=training))
        x = end_points.name("features", at_least_float32(x).mean(axis=(1, 2)))
        x = dropout(x, self.dropout_rate, training)
        logits = end_points.name("logits", nn.Dense(self.num_classes, name="logits")(x))
        return logits, dict(end_points)
