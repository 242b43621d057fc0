"""Random changes of an image's pixels in the training step: light, colours, sharpness, a blanked rectangle.

To add one, add its function to `PIXEL_TRANSFORMS` and its strength to `config.augmentation`.
"""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Image = Float[Array, "h w c"]  # 0 to 255


class Apply(Protocol):
    """Changes an image at random, by its key, as far as a strength allows."""

    def __call__(self, image: Image, key: Key[Array, ""], strength: float) -> Image: ...


def jitter_color(image: Image, key: Key[Array, ""], strength: float) -> Image:
    """Other light: scales each channel's mean, and the contrast about it, by up to 1 +- strength."""
    channels = image.shape[-1]
    factors = 1 + strength * _uniform(key, (channels + 1,))
    mean = image.mean(axis=(0, 1))
    return jnp.clip(mean * factors[:channels] + (image - mean) * factors[channels], 0, 255)


def rotate_hue(image: Float[Array, "h w 3"], key: Key[Array, ""], strength: float) -> Float[Array, "h w 3"]:
    """Another white balance: turns colours about the grey axis by up to `strength` degrees (120: red to green)."""
    angle = jnp.deg2rad(strength * _uniform(key))
    cos, sin = jnp.cos(angle), jnp.sin(angle) / math.sqrt(3)
    grey = image.mean(axis=-1, keepdims=True)
    across = jnp.roll(image, 1, axis=-1) - jnp.roll(image, -1, axis=-1)  # grey axis x colour, times the root of 3
    return jnp.clip(grey + cos * (image - grey) + sin * across, 0, 255)


def scale_saturation(image: Float[Array, "h w 3"], key: Key[Array, ""], strength: float) -> Float[Array, "h w 3"]:
    """Scales what sets colours apart from grey by a factor in 1 - strength to 1 + strength."""
    grey = image.mean(axis=-1, keepdims=True)
    return jnp.clip(grey + (1 + strength * _uniform(key)) * (image - grey), 0, 255)


def blur(image: Image, key: Key[Array, ""], strength: float) -> Image:
    """Gaussian blur of a standard deviation from 0 to `strength` pixels; the border is repeated."""
    radius = math.ceil(3 * strength)
    sigma = jnp.maximum(strength * jax.random.uniform(key), 1e-3)
    distances = jnp.arange(-radius, radius + 1)
    weights = jax.nn.softmax(-jnp.square(distances / sigma) / 2)
    for axis in (0, 1):
        size = image.shape[axis]
        padded = jnp.pad(image, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = sum(
            (w * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, w in enumerate(weights)),
            start=jnp.zeros_like(image),
        )
    return image


def cut_out(image: Image, key: Key[Array, ""], strength: float) -> Image:
    """Blanks a rectangle, centred on any pixel, with the image's mean colour (DeVries & Taylor 2017).

    Its sides are `strength` times those of the image.
    """
    height, width, _ = image.shape
    y, x = jax.random.uniform(key, (2,))
    rows = jnp.abs((jnp.arange(height) + 0.5) / height - y) < strength / 2
    columns = jnp.abs((jnp.arange(width) + 0.5) / width - x) < strength / 2
    return jnp.where((rows[:, None] & columns)[..., None], image.mean(axis=(0, 1)), image)


def _uniform(key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


class PixelTransform(NamedTuple):
    """A transform that `config.augmentation` can switch on.

    Attributes:
      option: of `config.augmentation`: its strength; 0 switches it off.
      apply: the function.
      stream: number of its random numbers, for it alone; recorded runs depend on it.
    """

    option: str
    apply: Apply
    stream: int


PIXEL_TRANSFORMS = (  # in the order in which they are applied
    PixelTransform("color_jitter", jitter_color, 5),
    PixelTransform("hue", rotate_hue, 9),
    PixelTransform("saturation", scale_saturation, 10),
    PixelTransform("blur", blur, 11),
    PixelTransform("cutout", cut_out, 6),
)
