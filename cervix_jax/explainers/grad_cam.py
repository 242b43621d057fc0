"""Grad-CAM: where the feature maps are that the score grows with (report section 13.2; Selvaraju et al. 2017)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cervix_jax.explainers.base import Method

FeatureMap = Float[Array, "b _ _ _"]


def grad_cam(
    score: Callable[[list[FeatureMap]], tuple[Float[Array, "b"], list[FeatureMap]]],
    shapes: Sequence[tuple[int, ...]],
) -> list[Float[Array, "b _ _"]]:
    """The positive part of the feature maps' sum, each weighted by the mean of the score's gradient over it.

    Args:
      score: maps perturbations, which it adds to feature maps, to (scores, feature maps); one feature map, or one of
        each member of an ensemble.
      shapes: [b h w c] of the feature maps.

    Returns:
      Maps at the size of the feature maps.
    """

    def total(perturbations: list[FeatureMap]) -> tuple[Float[Array, ""], list[FeatureMap]]:
        scores, feature_maps = score(perturbations)
        return scores.sum(), feature_maps

    gradients, feature_maps = jax.grad(total, has_aux=True)([jnp.zeros(shape) for shape in shapes])
    weights = [gradient.mean(axis=(1, 2), keepdims=True) for gradient in gradients]
    return [jnp.maximum((w * x).sum(axis=-1), 0) for w, x in zip(weights, feature_maps, strict=True)]


def enlarged(maps: Float[Array, "b h w"], size: tuple[int, int]) -> Float[Array, "b H W"]:
    """A feature map at the (height, width) of the pixels that it was computed from, linearly interpolated; sums stay.

    Cells are `_stride` pixels apart. Where they reach over the edge, the network has padded odd sizes at the bottom and
    right; where they leave a border free, as those of Inception-v3, it has not padded, and they lie in the middle. (Of
    two or three cells that border cannot be told from the edge: they are spread over the whole.)
    """
    cells = maps.shape[1:3]
    strides = [_stride(n, pixels) for n, pixels in zip(cells, size, strict=True)]
    free = [pixels - n * stride for n, pixels, stride in zip(cells, size, strides, strict=True)]
    spread = jax.image.resize(maps, (len(maps), cells[0] * strides[0], cells[1] * strides[1]), "linear")
    framed = jnp.pad(spread, [(0, 0), *((max(0, x) // 2, max(0, x) - max(0, x) // 2) for x in free)])
    return framed[:, : size[0], : size[1]] / (strides[0] * strides[1])


def _stride(cells: int, pixels: int) -> int:
    """The largest power of two at which all cells begin within the pixels; all of these for a single cell."""
    return pixels if cells == 1 else 2 ** ((pixels - 1) // (cells - 1)).bit_length() // 2


def _maps_of_members(score: Any, images: tuple[Float[Array, "b _ _ 3"], ...], key: Any) -> tuple[Any, ...]:
    """Maps at the pixels of each image array, of a `PredictorScore` with layers.

    Members that see the same images add up: each map is weighted by what its member adds to the score.
    """
    maps = grad_cam(lambda perturbations: score.with_perturbations(images, perturbations), score.layer_shapes(images))
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    sums = [jnp.zeros((images[0].shape[0], *size)) for size in sizes]
    for member_maps, i in zip(maps, score.inputs, strict=True):
        sums[i] += enlarged(member_maps, sizes[i])
    return tuple(sums)


GRAD_CAM = Method("Grad-CAM", _maps_of_members, reads_layers=True)
