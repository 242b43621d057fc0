"""Augmentation inside the training step: flips, translation, shear and zoom as one affine warp (report section 5.2).

One warp resamples once, so pictures are blurred once however many transformations are switched on. A photograph's warp
depends on its key alone, not on its place in the batch or on the device that computes it.
"""

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float, Key


def augment(
    images: Float[Array, "b h w c"], keys: Key[Array, "b"], augmentation: ml_collections.ConfigDict
) -> Float[Array, "b h w c"]:
    """Warps each photograph by a random affine map; what lies outside repeats the border. Nothing, if all is off.

    Args:
      images: any range of values.
      keys: one random key an example.
      augmentation: `config.augmentation`.
    """
    if not any(augmentation.values()):
        return images
    height, width = images.shape[1:3]

    def one(image: Float[Array, "h w c"], key: Key[Array, ""]) -> Float[Array, "h w c"]:
        return warp(image, random_affine(key, height, width, augmentation))

    return jax.vmap(one)(images, keys)


def random_affine(
    key: Key[Array, ""], height: int, width: int, augmentation: ml_collections.ConfigDict
) -> Float[Array, "2 3"]:
    """The map from a pixel of the result to where it is read in the source, both (row, column, 1) about the centre."""
    k_flip, k_shift, k_shear, k_zoom = jax.random.split(key, 4)
    flips = jax.random.bernoulli(k_flip, 0.5, (2,)) & jnp.array(
        [augmentation.vertical_flip, augmentation.horizontal_flip]
    )
    signs = jnp.where(flips, -1.0, 1.0)
    shift = jax.random.uniform(k_shift, (2,), minval=-1.0, maxval=1.0) * augmentation.translation
    shear = jax.random.uniform(k_shear, (), minval=-1.0, maxval=1.0) * augmentation.shear
    zoom = 1.0 + jax.random.uniform(k_zoom, (), minval=-1.0, maxval=1.0) * augmentation.zoom
    linear = jnp.array([[1.0, 0.0], [shear, 1.0]]) * signs[:, None] / zoom
    return jnp.concatenate([linear, (shift * jnp.array([height, width]))[:, None]], axis=1)


def warp(image: Float[Array, "h w c"], affine: Float[Array, "2 3"]) -> Float[Array, "h w c"]:
    """Bilinear resampling; coordinates outside are moved to the border.

    Args:
      image: any range of values.
      affine: see `random_affine`; the identity is [[1, 0, 0], [0, 1, 0]].
    """
    height, width, channels = image.shape
    rows = jnp.arange(height)[:, None] - (height - 1) / 2
    columns = jnp.arange(width)[None, :] - (width - 1) / 2
    y = affine[0, 0] * rows + affine[0, 1] * columns + affine[0, 2] + (height - 1) / 2
    x = affine[1, 0] * rows + affine[1, 1] * columns + affine[1, 2] + (width - 1) / 2
    y, x = jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)
    y0 = jnp.minimum(jnp.floor(y).astype(jnp.int32), max(height - 2, 0))
    x0 = jnp.minimum(jnp.floor(x).astype(jnp.int32), max(width - 2, 0))
    fy, fx = (y - y0)[..., None], (x - x0)[..., None]
    flat = image.reshape(height * width, channels)
    down, right = (width if height > 1 else 0), (1 if width > 1 else 0)
    corner = y0 * width + x0
    top = flat[corner] * (1 - fx) + flat[corner + right] * fx
    bottom = flat[corner + down] * (1 - fx) + flat[corner + down + right] * fx
    return (top * (1 - fy) + bottom * fy).astype(image.dtype)
