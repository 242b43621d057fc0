"""What a model is trained for: its loss, and the metrics that an epoch reports."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import softmax

from cervix_jax.training import losses, metrics


@runtime_checkable
class Task(Protocol):
    """The training step and the loop know a task by these three functions."""

    def losses(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> Float[Array, "b"]:
        """What is minimised, per example, before regularisation."""

    def metric_sums(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """`loss` and `correct`, summed over the examples of the batch whose `mask` is True."""

    def validation_metrics(self, outputs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> dict[str, float]:
        """`loss` and `accuracy`, exact, of the outputs for all examples of a split."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """Types told apart by cross-entropy.

    Attributes:
      class_weights: `config.loss.class_weights`; the training loss alone is weighted.
    """

    class_weights: tuple[float, ...] = ()

    def losses(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> Float[Array, "b"]:
        return losses.cross_entropy(outputs, batch["label"], self.class_weights)

    def metric_sums(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> dict[str, Array]:
        labels, mask = batch["label"], batch["mask"]
        return {
            "loss": jnp.sum(losses.cross_entropy(outputs, labels), where=mask),
            "correct": jnp.sum(outputs.argmax(-1) == labels, where=mask),
        }

    def validation_metrics(self, outputs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> dict[str, float]:
        probabilities = softmax(outputs.astype(np.float64), axis=1)
        accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        return {"loss": metrics.cross_entropy(probabilities, labels), "accuracy": accuracy}


def make_task(config: ml_collections.ConfigDict) -> Task:
    """The task of a run."""
    return Classification(tuple(config.loss.class_weights))
