"""Occlusion: how much the score falls where a patch is covered (Zeiler & Fergus 2014, section 4.2)."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cervix_jax.explainers.base import Images, Maps, Method, Score
from cervix_jax.explainers.gradients import mean_colour


def occlusion(score: Score, images: Images, *, patches_per_side: int = 8) -> Maps:
    """At each pixel, the mean fall of the score over the patches that cover it; negative where it rises.

    Patches are half overlapping and of the photograph's mean colour.

    Args:
      score: see `base.Score`.
      images: see `base.Images`; of several arrays each is covered in turn, the others left as they are.
      patches_per_side: how many fit into a side; the cost grows with its square.
    """
    leaves, structure = jax.tree.flatten(images)
    colours = jax.tree.leaves(mean_colour(images))
    uncovered_score = score(images)
    maps = []
    for i, (image, colour) in enumerate(zip(leaves, colours, strict=True)):
        masks = jnp.asarray(patch_masks(image.shape[1:3], patches_per_side))

        def fall(mask: Float[Array, "h w"], i: int = i, image: Any = image, colour: Any = colour) -> Float[Array, "b"]:
            covered = jnp.where(mask[:, :, None] > 0, colour, image)
            return uncovered_score - score(jax.tree.unflatten(structure, [*leaves[:i], covered, *leaves[i + 1 :]]))

        falls = jax.lax.map(fall, masks)
        maps.append(jnp.einsum("pb,phw->bhw", falls, masks) / masks.sum(axis=0))
    return jax.tree.unflatten(structure, maps)


OCCLUSION = Method(
    "Occlusion",
    lambda score, images, key: jax.tree.map(lambda x: jnp.maximum(x, 0), occlusion(score, images)),
    keep_sum=False,
)


def patch_masks(size: tuple[int, int], patches_per_side: int) -> Float[np.ndarray, "p h w"]:
    """Masks of half overlapping patches of one size; together they cover every pixel."""
    sides = []
    for length in size:
        side = max(1, round(length / patches_per_side))
        starts = [min(start, length - side) for start in range(0, length, max(1, side // 2))]
        places = np.arange(length)
        sides.append([(start <= places) & (places < start + side) for start in dict.fromkeys(starts)])
    return np.array([np.outer(rows, columns) for rows, columns in itertools.product(*sides)], np.float32)
