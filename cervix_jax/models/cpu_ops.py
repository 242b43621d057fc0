"""Equivalents of matmul, convolution and ReLU that are fast on CPU; other platforms get the plain ones.

- `channel_matmul`: a matmul over channels, and `dot_general` and `pointwise_conv`, the same for flax's `Dense` and 1x1
  `Conv`: in the weight gradient the narrower matrix is transposed, and nothing is computed twice.
- `relu`: ReLU whose result is kept. Left alone, XLA's CPU backend computes the sums of a residual network anew, from
  the first block on, for each of their many uses.
- `spatial_conv`: a convolution for flax's `Conv`: where there is much to compute, its weight gradient is a sum of
  matmuls, image by image.

Each stays only while whole steps gain by it; the README of `benchmarks` lists what was tried, and how much it gains.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

_Pair = tuple[int, int]
MUCH_WORK = 5_000_000  # pixels of an output times its channels squared, from which `spatial_conv` gains


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0), which on CPU is computed once: a tenth of the step of `configs/best.py`."""
    return lax.platform_dependent(nn.relu(x), cpu=lax.optimization_barrier, default=lambda x: x)


@jax.custom_vjp
def channel_matmul(x: Float[Array, "*rows c"], kernel: Float[Array, "c f"]) -> Float[Array, "*rows f"]:
    """Matmul over channels whose weight gradient is `_sum_of_outer_products`."""
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    kernel_gradient = lax.platform_dependent(
        _matrix(x), _matrix(gradient), cpu=_sum_of_outer_products, default=lambda x, gradient: x.T @ gradient
    )
    return gradient @ kernel.T, kernel_gradient


def _matrix(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _sum_of_outer_products(x: Float[Array, "n c"], gradient: Float[Array, "n f"]) -> Float[Array, "c f"]:
    """x.T @ gradient, in the order that is fast on CPU.

    XLA writes the left matrix of a product anew, transposed, so the narrower one goes there: twice as fast for 256
    channels and 64 features. The barriers keep XLA from turning the product around again, and from fusing the transpose
    into the loop that computes the gradient, which takes longer than the product.
    """
    gradient = lax.optimization_barrier(gradient)
    if gradient.shape[1] > x.shape[1]:
        return x.T @ gradient
    return lax.optimization_barrier(lax.optimization_barrier(gradient.T) @ x).T


channel_matmul.defvjp(_forward, _backward)


def dot_general(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`channel_matmul` with the signature of `lax.dot_general`, for `flax.linen.Dense`."""
    return channel_matmul(x, kernel)


def pointwise_conv(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[Sequence[int]], **options: Any
) -> Array:
    """`channel_matmul` with the signature of `lax.conv_general_dilated`, for a 1x1 `flax.linen.Conv` without padding.

    Raises:
      NotImplementedError: groups, dilation or padding.
    """
    _check_plain(options)
    if any(map(any, padding)):
        raise NotImplementedError("a 1x1 convolution with padding")
    return channel_matmul(x[:, :: strides[0], :: strides[1]], kernel[0, 0])


def spatial_conv(
    x: Array, kernel: Array, strides: Sequence[int], padding: Sequence[Sequence[int]], **options: Any
) -> Array:
    """A convolution with the signature of `lax.conv_general_dilated`, for a `flax.linen.Conv` with explicit padding.

    On CPU, with one device and much to compute, its weight gradient is computed image by image. XLA computes it as a
    convolution with a kernel as large as the map, which takes twice as long.

    Raises:
      NotImplementedError: groups or dilation.
    """
    _check_plain(options)
    return _spatial_conv(tuple(strides), tuple(map(tuple, padding)), x, kernel)


def _check_plain(options: Mapping[str, Any]) -> None:
    dilations = [tuple(options.get(name) or ()) for name in ("lhs_dilation", "rhs_dilation")]
    if options.get("feature_group_count", 1) != 1 or any(set(dilation) - {1} for dilation in dilations):
        raise NotImplementedError("a convolution with groups or dilation")


def _plain_conv(strides: _Pair, padding: tuple[_Pair, _Pair], x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _spatial_conv(strides: _Pair, padding: tuple[_Pair, _Pair], x: Array, kernel: Array) -> Array:
    return _plain_conv(strides, padding, x, kernel)


def _spatial_forward(strides: _Pair, padding: tuple[_Pair, _Pair], x: Array, kernel: Array) -> tuple[Array, Any]:
    return _plain_conv(strides, padding, x, kernel), (x, kernel)


def _spatial_backward(strides: _Pair, padding: tuple[_Pair, _Pair], saved: Any, gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    conv = partial(_plain_conv, strides, padding)
    (x_gradient,) = jax.vjp(lambda x: conv(x, kernel), x)[1](gradient)

    def kernel_gradient(x: Array, gradient: Array) -> Array:
        return jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](gradient)[0]

    _, height, width, features = gradient.shape
    # A loop over a batch that is split between devices would fetch every image from its device.
    if jax.device_count() > 1 or height * width * features**2 < MUCH_WORK:
        return x_gradient, kernel_gradient(x, gradient)
    by_image = partial(_kernel_gradient_by_image, strides, padding, kernel.shape)
    return x_gradient, lax.platform_dependent(x, gradient, cpu=by_image, default=kernel_gradient)


_spatial_conv.defvjp(_spatial_forward, _spatial_backward)


def _kernel_gradient_by_image(
    strides: _Pair,
    padding: tuple[_Pair, _Pair],
    shape: tuple[int, ...],
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b i j f"],
) -> Float[Array, "k l c f"]:
    """Sum over images of matmuls of shifted columns with the gradient; an image at a time stays in the CPU's cache.

    A stride is turned into channels first (space to depth): a 7x7 kernel of stride 2 is a 4x4 kernel on 2x2 patches,
    some of whose weights are cut off at the end.
    """
    (rows, columns), ((top, _), (left, _)) = strides, padding
    (batch, height, width, channels), (out_height, out_width, features) = x.shape, gradient.shape[1:]
    down, across = -(-shape[0] // rows), -(-shape[1] // columns)  # taps
    high, wide = out_height + down - 1, out_width + across - 1
    pad = [(0, 0, 0), (top, rows * high - height - top, 0), (left, columns * wide - width - left, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pad).reshape(batch, high, rows, wide, columns, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, high, wide, rows * columns * channels)

    sum_dtype = jnp.promote_types(x.dtype, jnp.float32)
    multiply = partial(jnp.matmul, preferred_element_type=sum_dtype)

    def add_image(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        image, image_gradient = pair
        taps = lax.optimization_barrier(jnp.concatenate([image[:, j : j + out_width] for j in range(across)], axis=-1))
        flat = _matrix(image_gradient)
        windows = [_matrix(taps[i : i + out_height]) for i in range(down)]
        if is_narrow:
            transposed = lax.optimization_barrier(flat.T)
            products = [multiply(transposed, window) for window in windows]
        else:
            products = [multiply(window.T, flat) for window in windows]
        return total + lax.optimization_barrier(jnp.stack(products)), None

    taps_width = across * x.shape[-1]
    is_narrow = features < taps_width  # the gradient, see `_sum_of_outer_products`
    zero = jnp.zeros((down, features, taps_width) if is_narrow else (down, taps_width, features), sum_dtype)
    total, _ = lax.scan(add_image, zero, (x, gradient))
    total = (total.swapaxes(1, 2) if is_narrow else total).astype(x.dtype)
    total = total.reshape(down, across, rows, columns, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return total.reshape(down * rows, across * columns, channels, features)[: shape[0], : shape[1]]
