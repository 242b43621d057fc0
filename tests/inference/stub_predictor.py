"""A predictor without a network: a function that a test chooses gives the probabilities of an image."""

from collections.abc import Callable

import numpy as np

from cervix_jax.images.geometry import CropResize
from cervix_jax.inference.photograph import NetworkInput
from cervix_jax.inference.predictor import Distributions, Predictor
from cervix_jax.labels import CLASS_NAMES


class StubPredictor(Predictor):
    """Reads photographs as the real one does, and applies `answer` to each image."""

    class_names = CLASS_NAMES
    quality_reference = None
    embedding_references = None
    name = "stub"

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray], size=(32, 24)):
        object.__setattr__(self, "answer", answer)
        object.__setattr__(self, "size", size)

    @property
    def network_inputs(self) -> tuple[NetworkInput, ...]:
        return (NetworkInput(CropResize(self.size)),)

    def distributions(self, photographs, batch_size=32):
        answers = np.stack([self.answer(photograph.images[0]) for photograph in photographs])
        return Distributions(answers, None, None)
