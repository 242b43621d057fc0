"""The report's own network: an Inception-like residual head on the features of a backbone (report section 7).

The report's figure of it is lost, so this follows the paper that it cites for the idea: Szegedy et al. 2016,
"Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning": parallel branches (1x1, 3x3, a 5x5
factorised into two 3x3, pooling) concatenated, a linear 1x1 projection, added to the input; reductions between the
stages, max-pooling beside a strided convolution; global average pooling, dropout, softmax. Residuals are not scaled
down: the paper needs that above 1000 filters (section 3.3), and here it only slows learning. Widths are ours, chosen so
that every stage costs about the same and large maps stay cheap.
"""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.models.cpu_ops import relu
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
    drop_path,
    dropout,
    max_pool_2x2,
    norm_layer,
)


class InceptionResidualBlock(nn.Module):
    """x + project(concatenate(1x1, 3x3, 5x5, pool)), then ReLU; channels stay as they are.

    The four branches' first 1x1 convolutions are computed as a single matmul and split: four small matmuls of the same
    input cost more than one.

    Attributes:
      norm: makes the normalisation layers of the branches.
      drop_path_rate: probability that an example skips the block in training.
      number: of the block in its head, from 1.
    """

    norm: Norm = BatchNorm
    drop_path_rate: float = 0.0
    number: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, training: TrainingPass | None) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        width = channels // 4
        conv_norm_act = partial(ConvNormAct, norm=self.norm)
        branches = conv_norm_act(partial(PointwiseConv, 4 * width), name="branches")(x, training=training)
        x1, x3, x5, pool = jnp.split(branches, 4, axis=-1)
        x3 = conv_norm_act(partial(Conv3x3, width), name="three")(x3, training=training)
        x5 = conv_norm_act(partial(Conv3x3, width), name="five_a")(x5, training=training)
        x5 = conv_norm_act(partial(Conv3x3, width), name="five_b")(x5, training=training)
        branches = jnp.concatenate([x1, x3, x5, average_pool_3x3(pool)], axis=-1)
        residual = BiasedPointwiseConv(channels, name="project")(branches)
        return relu(x + drop_path(residual, self.drop_path_rate, training, self.number))


class Reduction(nn.Module):
    """Halves height and width: max-pooling beside a strided convolution, concatenated, batch norm, ReLU.

    The pooled channels are kept as they are if they make up at most half of the output, else projected to half of it.

    Attributes:
      features: output channels.
      norm: makes the normalisation layer of the result.
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
        return relu(self.norm(name="norm")(x, training))


class InceptionResidualHead(nn.Module):
    """Backbone features (or photographs) to logits.

    Attributes:
      stem: begin with a 3x3 convolution to half of the first width; for photographs, whose three channels hold no
        features that a reduction could keep.
      num_classes: number of logits.
      widths: channels of each stage, multiples of 4; a stage halves height and width first.
      blocks: residual blocks of each stage.
      dropout_rate: probability of dropping a feature before the logits (report section 7: 0.4).
      drop_path_rate: probability of skipping the last residual block, linearly less in those before it.
      batch_norm: normalise after convolutions (report section 5.2); otherwise add a bias.
      remat: recompute blocks in the backward pass instead of keeping their activations.
    """

    stem: bool = False
    num_classes: int = 3
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    dropout_rate: float = 0.4
    drop_path_rate: float = 0.0
    batch_norm: bool = True
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
          x: feature maps, or normalised photographs.
          training: None in evaluation: batch norm uses running statistics, and nothing is dropped.
          perturbations: see `EndPoints`.
        """
        end_points, norm = EndPoints(perturbations), norm_layer(self.batch_norm)
        if self.stem:
            stem = ConvNormAct(partial(Conv3x3, self.widths[0] // 2), norm, name="stem")
            x = end_points.name("stem", stem(x, training=training))
        make_block = nn.remat(InceptionResidualBlock) if self.remat else InceptionResidualBlock
        number = 0
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True), start=1):
            x = Reduction(width, norm, name=f"stage{stage}_reduce")(x, training=training)
            for block in range(1, blocks + 1):
                name = f"stage{stage}_block{block}"
                number += 1
                block_module = make_block(norm, self.drop_path_rate * number / sum(self.blocks), number, name=name)
                x = end_points.name(name, block_module(x, training=training))
        x = end_points.name("features", at_least_float32(x).mean(axis=(1, 2)))
        x = dropout(x, self.dropout_rate, training)
        logits = end_points.name("logits", nn.Dense(self.num_classes, name="logits")(x))
        return logits, dict(end_points)
