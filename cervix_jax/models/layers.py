"""The layers that the heads share, and the forms of them that XLA compiles well.

A 1x1 convolution is a matrix product over channels, and a 2x2 convolution of stride 2 is a matrix product over 2x2
patches. XLA's CPU backend runs the products several times faster than the convolutions, most of all backward (the
weight gradient of a strided convolution is a dilated one), and the accelerators lose nothing: the arithmetic is the
same.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

KERNEL_INIT = nn.initializers.he_normal()

# Design: 0.9 because at 40-75 steps an epoch Keras' 0.99 lags behind the weights; two-pass variance because the
# one-pass form cancels in float32 where the mean is large against the spread, as in photographs.
BatchNorm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-3, use_fast_variance=False)

# A 1x1 convolution without bias: batch norm or a residual sum follows it.
PointwiseConv = partial(nn.Dense, use_bias=False, kernel_init=KERNEL_INIT)

Conv3x3 = partial(nn.Conv, kernel_size=(3, 3), padding=((1, 1), (1, 1)), use_bias=False, kernel_init=KERNEL_INIT)


class ConvNormAct(nn.Module):
    """A convolution, batch norm and ReLU.

    Attributes:
      conv: makes the convolution, such as `partial(Conv3x3, 64)`.
    """

    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        x = self.conv(name="conv")(x)
        return nn.relu(BatchNorm(use_running_average=not train, name="norm")(x))


class PatchConv(nn.Module):
    """A 2x2 convolution of stride 2 as one matrix product over patches; halves height and width.

    Odd sizes are padded with zeros at the bottom and right, as a 'SAME' convolution pads them.

    Attributes:
      features: channels of the result.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        x = _patches(x).transpose(0, 1, 3, 2, 4, 5)
        b, h, w = x.shape[:3]
        return PointwiseConv(self.features, name="conv")(x.reshape(b, h, w, -1))


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Largest of each 2x2 patch; odd sizes are padded with zeros at the bottom and right, so for x >= 0.

    In pairs: the gradient of a maximum over an axis divides by how many numbers equal it; where XLA computes x twice
    and rounds it differently, in the forward and in the backward pass, that is 0 / 0.
    """
    x = _patches(x)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def _patches(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 2 w2 2 c"]:
    """2x2 patches; odd sizes are padded with zeros at the bottom and right."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c)


def average_pool_3x3(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean over 3x3 windows at stride 1, zeros outside, as shifted sums: first down the rows, then across."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    x = x[:, 0:h] + x[:, 1 : h + 1] + x[:, 2 : h + 2]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    return (x[:, :, 0:w] + x[:, :, 1 : w + 1] + x[:, :, 2 : w + 2]) / 9


def dropout(x: Float[Array, "b *features"], rate: float, keys: Key[Array, "b"] | None) -> Float[Array, "b *features"]:
    """Drops each number with probability `rate` and scales the rest by 1 / (1 - rate) (report section 5.2).

    Args:
      x: one row an example.
      rate: probability of dropping, 0 to 1.
      keys: one random key an example, so that a mask does not depend on how a batch is laid out over devices; None
        (evaluation) drops nothing.
    """
    if keys is None or rate == 0:
        return x
    keep: Any = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)
