"""The explanation methods, and explanations of photographs by a predictor, in the frame of each photograph."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from cervix_jax.explainers.base import Method
from cervix_jax.explainers.grad_cam import GRAD_CAM
from cervix_jax.explainers.gradients import INTEGRATED_GRADIENTS, SALIENCY, SMOOTH_GRAD
from cervix_jax.explainers.occlusion import OCCLUSION
from cervix_jax.explainers.predictor_score import PredictorScore
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor

METHODS: dict[str, Method] = {
    "saliency": SALIENCY,
    "smooth_grad": SMOOTH_GRAD,
    "integrated_gradients": INTEGRATED_GRADIENTS,
    "grad_cam": GRAD_CAM,
    "occlusion": OCCLUSION,
}

HeatMap = Float[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One photograph explained.

    Attributes:
      class_index: the class that is explained, an index into the predictor's class names.
      probabilities: of the classes.
      heat: a map by method, of the height and width of `Photograph.jpeg`; none negative, all 0 where nothing speaks for
        the class.
    """

    class_index: int
    probabilities: Float[np.ndarray, "k"]
    heat: dict[str, HeatMap]


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
      photographs: n of them, from `predictor.read`.
      methods: names in `METHODS`.
      target: 'type' or 'margin', see `PredictorScore`.
      layer: that Grad-CAM reads; the last feature map unless given.
      classes: indices of the classes to explain; the likeliest of each photograph unless given.
      batch_size: photographs a step, at most 32 unless given; SmoothGrad's noise depends on it, nothing else.

    Raises:
      LayerError: a member has no such layer.
    """
    batch_size = batch_size or min(32, len(photographs))
    probabilities = predictor.probabilities(photographs, batch_size)
    classes = probabilities.argmax(axis=1) if classes is None else classes
    heat: list[dict[str, HeatMap]] = [{} for _ in photographs]
    steps = [(name, start) for name in methods for start in range(0, len(photographs), batch_size)]
    for name, start in tqdm(steps, unit="batch", disable=None):
        method = METHODS[name]
        rows = np.arange(start, min(start + batch_size, len(photographs)))
        padded = np.resize(rows, batch_size)  # the last batch repeats itself: no new shape, nothing compiled again
        images = tuple(
            jnp.asarray(np.stack([photographs[i].images[place] for i in padded]), jnp.float32)
            for place in range(len(predictor.network_inputs))
        )
        score = PredictorScore.of(predictor, classes[padded], target)
        if method.reads_layers:
            score = score.choose_layers(images, layer)
        maps = jax.device_get(_JITTED[name](score, images, jax.random.key(start)))
        for row, i in enumerate(rows):
            heat[i][name] = _in_frame([m[row] for m in maps], photographs[i], predictor, method.keep_sum)
    return [Explanation(int(c), p, h) for c, p, h in zip(classes, probabilities, heat, strict=True)]


_JITTED = {name: jax.jit(method.maps) for name, method in METHODS.items()}


def _in_frame(
    maps: Sequence[Float[np.ndarray, "_ _"]], photograph: Photograph, predictor: Predictor, keep_sum: bool
) -> HeatMap:
    """Sum of the maps at the pixels of each network input, in the frame of the stored photograph."""
    return sum(
        (
            network_input.transform.to_photograph(heat, photograph.size, found and found.box, keep_sum=keep_sum)
            for heat, network_input, found in zip(maps, predictor.network_inputs, photograph.located, strict=True)
        ),
        start=np.zeros(photograph.size, np.float32),
    )
