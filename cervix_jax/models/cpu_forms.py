"""Forms of an operation that XLA's CPU backend compiles better than the plain one; other platforms keep the plain one.

Each stays only while it gains a tenth of a training step; the README keeps the table of what was tried.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def channel_product(x: Float[Array, "*rows c"], kernel: Float[Array, "c f"]) -> Float[Array, "*rows f"]:
    """Product over channels, whose weight gradient is one product of two matrices that are in memory as they are.

    Left alone, XLA writes one of them transposed, out of the loop that computes it: that takes longer than the product.
    """
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    as_it_is = lax.platform_dependent(gradient, cpu=lax.optimization_barrier, default=lambda gradient: gradient)
    return gradient @ kernel.T, _matrix(x).T @ _matrix(as_it_is)


def _matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


channel_product.defvjp(_forward, _backward)


def dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`channel_product` in the place of `lax.dot_general`, as `flax.linen.Dense` calls it."""
    return channel_product(x, kernel)


def pointwise_conv(x: Array, kernel: Array, strides: Sequence[int], *_: Any, **__: Any) -> Array:
    """`channel_product` in the place of `lax.conv_general_dilated`, as a 1x1 `flax.linen.Conv` calls it."""
    return channel_product(x[:, :: strides[0], :: strides[1]], kernel[0, 0])
