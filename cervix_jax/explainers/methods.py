"""Explanations of photographs by a predictor, method by method, in the frame of each photograph."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from cervix_jax.explainers import gradients
from cervix_jax.explainers.grad_cam import enlarged, grad_cam
from cervix_jax.explainers.occlusion import occlusion
from cervix_jax.explainers.predictor_score import PredictorScore, Views
from cervix_jax.images.decode import read_photograph
from cervix_jax.inference.predictor import Photograph, Predictor

Heat = Float[np.ndarray, "h w"]
Maps = tuple[Float[Array, "b _ _"], ...]  # of each view


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to explain.

    Attributes:
      title: for figures.
      maps: from a score, the images, layers (that Grad-CAM reads) and a random key to a map for each view, none
        negative.
      shares: the numbers of a map are shares of the score, or its slope by a pixel: the fewer pixels, the larger. Else
        they are what happens to the score at a place.
    """

    title: str
    maps: Callable[..., Maps]
    shares: bool = True


def _saliency(score: PredictorScore, images: Views, layers: tuple[str, ...], key: Any) -> Maps:
    return gradients.saliency(score, images)


def _smooth_grad(score: PredictorScore, images: Views, layers: tuple[str, ...], key: Any) -> Maps:
    return gradients.smooth_grad(score, images, key)


def _integrated_gradients(score: PredictorScore, images: Views, layers: tuple[str, ...], key: Any) -> Maps:
    return gradients.positive_sum(gradients.integrated_gradients(score, images))


def _grad_cam(score: PredictorScore, images: Views, layers: tuple[str, ...], key: Any) -> Maps:
    shapes = [score.feature_maps(i, images)[layer].shape for i, layer in enumerate(layers)]

    def with_perturbations(perturbations: list[Array]) -> tuple[Float[Array, "b"], list[Array]]:
        named = [{layer: perturbation} for layer, perturbation in zip(layers, perturbations, strict=True)]
        return score.with_layers(layers, images, named)

    maps = grad_cam(with_perturbations, shapes)
    # Members that see the same view add up: each map is weighted by what its member adds to the score.
    of_view = [[m for m, own in zip(maps, score.views, strict=True) if own == view] for view in range(len(images))]
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    return tuple(
        jnp.stack([enlarged(m, size) for m in part]).sum(axis=0) for part, size in zip(of_view, sizes, strict=True)
    )


def _occlusion(score: PredictorScore, images: Views, layers: tuple[str, ...], key: Any) -> Maps:
    return jax.tree.map(partial(jnp.maximum, 0), occlusion(score, images))


METHODS: dict[str, Method] = {
    "saliency": Method("Saliency", _saliency),
    "smooth_grad": Method("SmoothGrad", _smooth_grad),
    "integrated_gradients": Method("Integrated gradients", _integrated_gradients),
    "grad_cam": Method("Grad-CAM", _grad_cam),
    "occlusion": Method("Occlusion", _occlusion, shares=False),
}


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One photograph explained.

    Attributes:
      explained: place of the type, in the predictor's class names.
      probabilities: of the types.
      heat: by method, in the frame of the photograph as it is stored; none negative, all 0 where nothing speaks for the
        type.
    """

    explained: int
    probabilities: Float[np.ndarray, "k"]
    heat: dict[str, Heat]


def explain(
    predictor: Predictor,
    photographs: Sequence[Photograph],
    methods: Sequence[str] = tuple(METHODS),
    *,
    target: str = "type",
    layer: str | None = None,
    classes: Int[np.ndarray, "n"] | None = None,
    batch_size: int | None = None,
) -> list[Explanation]:
    """Explains photographs; each method is compiled once.

    Args:
      predictor: one run or many.
      photographs: from `predictor.read`.
      methods: names in `METHODS`.
      target: 'type' or 'margin', see `PredictorScore`.
      layer: that Grad-CAM reads; the last feature map unless given.
      classes: types to explain, places in the class names; the likeliest of each photograph unless given.
      batch_size: photographs a step, at most 32 unless given; SmoothGrad's noise depends on it, nothing else.

    Raises:
      LayerError: a member has no such layer.
    """
    batch_size = batch_size or min(32, len(photographs))
    probabilities = predictor.probabilities(photographs, batch_size)
    classes = probabilities.argmax(axis=1) if classes is None else classes
    found: list[dict[str, Heat]] = [{} for _ in photographs]
    steps = [(name, start) for name in methods for start in range(0, len(photographs), batch_size)]
    for name, start in tqdm(steps, unit="batch", disable=None):
        rows = np.arange(start, min(start + batch_size, len(photographs)))
        filled = np.resize(rows, batch_size)  # the last batch repeats itself: no new shape, nothing compiled again
        images = tuple(
            jnp.asarray(np.stack([photographs[i].images[view] for i in filled]), jnp.float32)
            for view in range(len(predictor.views))
        )
        score = PredictorScore.of(predictor, classes[filled], target)
        layers = tuple(score.layers(images, layer)) if name == "grad_cam" else ()
        maps = jax.device_get(_JITTED[name](score, images, layers, jax.random.key(start)))
        for place, i in enumerate(rows):
            found[i][name] = _in_frame([m[place] for m in maps], photographs[i], predictor, METHODS[name].shares)
    return [
        Explanation(int(explained), own, heat)
        for explained, own, heat in zip(classes, probabilities, found, strict=True)
    ]


_JITTED = {name: jax.jit(method.maps, static_argnums=2) for name, method in METHODS.items()}


def _in_frame(
    maps: Sequence[Float[np.ndarray, "_ _"]], photograph: Photograph, predictor: Predictor, shares: bool
) -> Heat:
    """The views' maps together, in the frame of the stored photograph."""
    stored = read_photograph(photograph.jpeg)
    size = (stored.height, stored.width)
    return sum(
        (view.to_photograph(heat, size, keep_sum=shares) for heat, view in zip(maps, predictor.views, strict=True)),
        start=np.zeros(size, np.float32),
    )
