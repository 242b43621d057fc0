"""Forms of an operation that XLA's CPU backend compiles better than the plain one; other platforms keep the plain one.

Each stays only while it gains a tenth of a training step; the README keeps the table of what was tried.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_Pair = tuple[int, int]
LARGE_MAP, MANY_FEATURES = 2400, 32  # pixels and channels of a result from which `spatial_conv` gains


@jax.custom_vjp
def channel_matmul(x: Float[Array, "*rows c"], kernel: Float[Array, "c f"]) -> Float[Array, "*rows f"]:
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


channel_matmul.defvjp(_forward, _backward)


def dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`channel_matmul` in the place of `lax.dot_general`, as `flax.linen.Dense` calls it."""
    return channel_matmul(x, kernel)


def pointwise_conv(x: Array, kernel: Array, strides: Sequence[int], *_: Any, **__: Any) -> Array:
    """`channel_matmul` in the place of `lax.conv_general_dilated`, as a 1x1 `flax.linen.Conv` calls it."""
    return channel_matmul(x[:, :: strides[0], :: strides[1]], kernel[0, 0])


def spatial_conv(x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[Sequence[int]], **_: Any) -> Array:
    """In the place of `lax.conv_general_dilated`, as a `flax.linen.Conv` with explicit padding calls it."""
    return _spatial_conv(tuple(strides), tuple(map(tuple, padding)), x, kernel)


def _plain_conv(strides: _Pair, padding: tuple[_Pair, _Pair], x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _spatial_conv(strides: _Pair, padding: tuple[_Pair, _Pair], x: Array, kernel: Array) -> Array:
    """A convolution whose weight gradient, on large maps, is computed image by image.

    XLA computes it as a convolution with a kernel as large as the map, which takes twice as long.
    """
    return _plain_conv(strides, padding, x, kernel)


def _spatial_forward(strides: _Pair, padding: tuple[_Pair, _Pair], x: Array, kernel: Array) -> tuple[Array, Any]:
    return _plain_conv(strides, padding, x, kernel), (x, kernel)


def _spatial_backward(strides: _Pair, padding: tuple[_Pair, _Pair], saved: Any, gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    plain = partial(_plain_conv, strides, padding)
    (of_x,) = jax.vjp(lambda x: plain(x, kernel), x)[1](gradient)

    def of_kernel(x: Array, gradient: Array) -> Array:
        return jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](gradient)[0]

    _, height, width, features = gradient.shape
    # A loop over a batch that is split between devices would fetch every image from its device.
    if jax.device_count() > 1 or height * width < LARGE_MAP or features < MANY_FEATURES:
        return of_x, of_kernel(x, gradient)
    by_image = partial(_kernel_gradient_by_image, strides, padding, kernel.shape)
    return of_x, lax.platform_dependent(x, gradient, cpu=by_image, default=of_kernel)


_spatial_conv.defvjp(_spatial_forward, _spatial_backward)


def _kernel_gradient_by_image(
    strides: _Pair,
    padding: tuple[_Pair, _Pair],
    shape: tuple[int, ...],
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b i j f"],
) -> Float[Array, "k l c f"]:
    """Sum over images of products of shifted columns with the gradient; images stay in the processor's cache.

    A stride becomes channels first: a kernel of 7x7 and stride 2 is one of 4x4 on 2x2 patches, of which some weights
    are not used.
    """
    (rows, columns), ((top, _), (left, _)) = strides, padding
    (batch, height, width, channels), (out_height, out_width, features) = x.shape, gradient.shape[1:]
    down, across = -(-shape[0] // rows), -(-shape[1] // columns)  # taps
    high, wide = out_height + down - 1, out_width + across - 1
    fill = [(0, 0, 0), (top, rows * high - height - top, 0), (left, columns * wide - width - left, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), fill).reshape(batch, high, rows, wide, columns, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, high, wide, rows * columns * channels)

    wide_sum = jnp.promote_types(x.dtype, jnp.float32)

    def add_image(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        image, of_image = pair
        taps = jnp.concatenate([image[:, j : j + out_width] for j in range(across)], axis=-1)
        flat = _matrix(of_image)
        product = [
            jnp.matmul(_matrix(taps[i : i + out_height]).T, flat, preferred_element_type=wide_sum) for i in range(down)
        ]
        return total + jnp.stack(product), None

    zero = jnp.zeros((down, across * x.shape[-1], features), wide_sum)
    total, _ = lax.scan(add_image, zero, (x, gradient))
    total = total.astype(x.dtype)
    total = total.reshape(down, across, rows, columns, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return total.reshape(down * rows, across * columns, channels, features)[: shape[0], : shape[1]]
