"""Grad-CAM: where the feature maps are that the score grows with (report section 13.2; Selvaraju et al. 2017)."""

import math
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

    A cell stands for a power of two of pixels a side, and the last ones may reach over the edge, where odd sizes were
    padded at the bottom and right.
    """
    cells = maps.shape[1:3]
    strides = [2 ** math.ceil(math.log2(max(1, pixels / n))) for pixels, n in zip(size, cells, strict=True)]
    whole = (maps.shape[0], cells[0] * strides[0], cells[1] * strides[1])
    return jax.image.resize(maps, whole, "linear")[:, : size[0], : size[1]] / (strides[0] * strides[1])


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
