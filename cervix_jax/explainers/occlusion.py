"""Occlusion: how much the score falls where a patch is covered (Zeiler & Fergus 2014, section 4.2)."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cervix_jax.explainers.gradients import Images, Maps, Score, mean_colour


def occlusion(score: Score, images: Images, *, parts: int = 8) -> Maps:
    """At each pixel, the mean fall of the score over the patches that cover it; negative where it rises.

    Patches are a `parts`-th of each side, half overlapping, in the photograph's mean colour.

    Args:
      score: see `gradients.Score`.
      images: see `gradients.Images`; of several arrays each is covered in turn, the others left as they are.
      parts: patches that fit into a side; their number grows with its square.
    """
    leaves, structure = jax.tree.flatten(images)
    grounds = jax.tree.leaves(mean_colour(images))
    whole = score(images)
    maps = []
    for i, (image, ground) in enumerate(zip(leaves, grounds, strict=True)):
        masks = jnp.asarray(patches(image.shape[1:3], parts))

        def fall(mask: Float[Array, "h w"], i: int = i, image: Any = image, ground: Any = ground) -> Float[Array, "b"]:
            covered = jnp.where(mask[:, :, None] > 0, ground, image)
            return whole - score(jax.tree.unflatten(structure, [*leaves[:i], covered, *leaves[i + 1 :]]))

        falls = jax.lax.map(fall, masks)
        maps.append(jnp.einsum("pb,phw->bhw", falls, masks) / masks.sum(axis=0))
    return jax.tree.unflatten(structure, maps)


def patches(size: tuple[int, int], parts: int) -> Float[np.ndarray, "p h w"]:
    """Masks of half overlapping patches; together they cover every pixel."""
    sides = []
    for length in size:
        side = max(1, round(length / parts))
        starts = [min(start, length - side) for start in range(0, length, max(1, side // 2))]
        places = np.arange(length)
        sides.append([(start <= places) & (places < start + side) for start in dict.fromkeys(starts)])
    return np.array([np.outer(rows, columns) for rows, columns in itertools.product(*sides)], np.float32)
