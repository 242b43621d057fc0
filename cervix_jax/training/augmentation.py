"""Augmentation inside the training step: random flips, translation, shear and zoom (report section 5.2), and others.

All geometric transforms are composed into one affine map, so that each image is resampled once however many of them are
switched on. What happens to an example depends on its key alone, not on its place in the batch or on the device that
computes it.

To add a geometric transform, add its function to `TRANSFORMS` and its range to `config.augmentation`; a transform of
pixels goes to `pixel_transforms.py`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float, Key

from cervix_jax.training.mixing import cut_mix, mix_up
from cervix_jax.training.pixel_transforms import PIXEL_TRANSFORMS

Affine = Float[Array, "2 3"]  # pixel (row, column, 1) of the result -> (row, column) of the source, about the centre
Size = tuple[int, int]  # height and width in pixels
Options: TypeAlias = ml_collections.ConfigDict  # config.augmentation


def augment(batch: Mapping[str, Array], keys: Key[Array, "b"], augmentation: Options) -> dict[str, Array]:
    """Warps images by random affine maps and moves their boxes; changes their pixels; blends them with others.

    Pixels outside the source repeat its border.

    Args:
      batch: `image` [b h w c], 0 to 255, and `box` [b 4], if there are boxes; other entries are left alone,
        all of them if all options are off.
      keys: one random key per example.
      augmentation: `config.augmentation`.

    Returns:
      The batch with other images, and with what `mixing` adds.
    """
    if not any(augmentation.values()):
        return dict(batch)
    height, width = batch["image"].shape[1:3]
    affines = jax.vmap(lambda key: random_affine(key, height, width, augmentation))(keys)
    images = jax.vmap(warp)(batch["image"], affines)
    for transform in PIXEL_TRANSFORMS:
        if strength := augmentation[transform.option]:
            images = jax.vmap(partial(transform.apply, strength=strength))(images, _stream(keys, transform.stream))
    augmented = {**batch, "image": images}
    if "box" in batch:
        augmented["box"] = jax.vmap(lambda box, affine: move_box(box, affine, (height, width)))(batch["box"], affines)
    for option, mix, stream in (("mixup", mix_up, 7), ("cutmix", cut_mix, 12)):
        if alpha := augmentation[option]:
            augmented = mix(augmented, _stream(keys, stream), alpha)
    return augmented


def _stream(keys: Key[Array, "b"], stream: int) -> Key[Array, "b"]:
    """Keys of another purpose; below 5 are those of `TRANSFORMS` at the time of the first runs."""
    return jax.vmap(lambda key: jax.random.fold_in(key, stream))(keys)


def random_affine(key: Key[Array, ""], height: int, width: int, augmentation: Options) -> Affine:
    """All of `TRANSFORMS`, composed."""
    affine = jnp.eye(2, 3)
    for transform_key, transform in zip(jax.random.split(key, len(TRANSFORMS)), TRANSFORMS, strict=True):
        affine = transform(affine, transform_key, (height, width), augmentation)
    return affine


def _flip(affine: Affine, key: Key[Array, ""], size: Size, options: Options) -> Affine:
    allowed = jnp.array([options.vertical_flip, options.horizontal_flip])
    flipped = jax.random.bernoulli(key, 0.5, (2,)) & allowed
    return affine * jnp.where(flipped, -1.0, 1.0)[:, None]


def _translate(affine: Affine, key: Key[Array, ""], size: Size, options: Options) -> Affine:
    return affine.at[:, 2].add(_uniform(key, (2,)) * options.translation * jnp.array(size))


def _shear(affine: Affine, key: Key[Array, ""], size: Size, options: Options) -> Affine:
    return affine.at[:, 0].add(affine[:, 1] * (_uniform(key) * options.shear))


def _zoom(affine: Affine, key: Key[Array, ""], size: Size, options: Options) -> Affine:
    zoom = 1.0 + _uniform(key) * options.zoom
    return affine.at[:, :2].multiply(1.0 / zoom)  # a division would round differently than in recorded runs


def _rotate(affine: Affine, key: Key[Array, ""], size: Size, options: Options) -> Affine:
    angle = jnp.deg2rad(_uniform(key) * options.rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return affine.at[:, :2].set(affine[:, :2] @ jnp.array([[cos, -sin], [sin, cos]])) if options.rotation else affine


def _uniform(key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


# Each takes the map so far and returns the map that applies a random transform before it.
Transform = Callable[[Affine, Key[Array, ""], Size, Options], Affine]
TRANSFORMS: tuple[Transform, ...] = (_flip, _translate, _shear, _zoom, _rotate)  # add at the end: keys go by place


def warp(image: Float[Array, "h w c"], affine: Affine) -> Float[Array, "h w c"]:
    """Bilinear resampling; coordinates outside the image are clipped to its border.

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


def move_box(box: Float[Array, "4"], affine: Affine, size: Size) -> Float[Array, "4"]:
    """The box of a warped image, clipped to it: that of the ellipse which the box encloses.

    A cervix is round, so the ellipse stays close to it, where the corners of the box would reach out under shear.

    Args:
      box: left, top, right, bottom as fractions of the sides.
      affine: of `warp`.
      size: height and width in pixels.
    """
    left, top, right, bottom = box
    sides = jnp.array(size, box.dtype)
    center = jnp.stack([(top + bottom) / 2, (left + right) / 2]) * sides - sides / 2
    radii = jnp.stack([bottom - top, right - left]) / 2 * sides
    inverse = jnp.linalg.inv(affine[:, :2])
    center = (inverse @ (center - affine[:, 2]) + sides / 2) / sides
    radii = jnp.sqrt(jnp.square(inverse) @ jnp.square(radii)) / sides
    (top, left), (bottom, right) = center - radii, center + radii
    return jnp.clip(jnp.stack([left, top, right, bottom]), 0, 1)
