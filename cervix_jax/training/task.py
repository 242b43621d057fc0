"""What a model is trained for: its loss, and the metrics that an epoch reports."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Array, Float
from scipy.special import softmax

from cervix_jax.images.boxes import generalized_iou, iou
from cervix_jax.training import losses, metrics


@runtime_checkable
class Task(Protocol):
    """The training step and the loop know a task by these."""

    @property
    def metric(self) -> str:
        """Name of the metric that is reported beside the loss."""

    def losses(
        self, outputs: Float[Array, "b k"], end_points: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> Float[Array, "b"]:
        """What is minimised, per example, before regularisation."""

    def metric_sums(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """`loss` and `correct`, the metric, summed over the examples of the batch whose `mask` is True."""

    def validation_metrics(
        self, outputs: Float[np.ndarray, "n k"], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`loss` and the metric, exact, for all examples of a split, whose `label` and `box` are the targets."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """Types told apart by cross-entropy.

    Attributes:
      class_weights: `config.loss.class_weights`; the training loss alone is weighted.
      label_smoothing: `config.loss.label_smoothing`, likewise.
      ambiguity: `config.loss.ambiguity`, likewise.
    """

    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    ambiguity: float = 0.0
    metric: str = "accuracy"

    def losses(
        self, outputs: Float[Array, "b k"], end_points: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> Float[Array, "b"]:
        def loss(owner: str = "") -> Float[Array, "b"]:
            return losses.cross_entropy(
                outputs,
                batch[f"{owner}label"],
                self.class_weights,
                targets=batch.get(f"{owner}target"),
                label_smoothing=self.label_smoothing,
                ambiguity=self.ambiguity,
            )

        if "partner_label" not in batch:
            return loss()
        own_part = batch["own_part"]  # of images that `mixing` has blended
        return own_part * loss() + (1 - own_part) * loss("partner_")

    def metric_sums(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> dict[str, Array]:
        labels, mask = batch["label"], batch["mask"]
        return {
            "loss": jnp.sum(losses.cross_entropy(outputs, labels), where=mask),
            "correct": jnp.sum(outputs.argmax(-1) == labels, where=mask),
        }

    def validation_metrics(
        self, outputs: Float[np.ndarray, "n k"], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        probabilities = softmax(outputs.astype(np.float64), axis=1)
        accuracy = float((probabilities.argmax(axis=1) == targets["label"]).mean())
        return {"loss": metrics.cross_entropy(probabilities, targets["label"]), "accuracy": accuracy}


@dataclasses.dataclass(frozen=True)
class Localisation:
    """The box around the cervix by a `BoxVotingHead`; the reported loss is 1 - GIoU (Rezatofighi et al. 2019).

    In training, the votes of locations inside the cervix are drawn to the box one by one, their weights to what is
    inside, and the expected overlap to the overlap.
    """

    metric: str = "mean_iou"

    def losses(
        self, outputs: Float[Array, "b k"], end_points: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> Float[Array, "b"]:
        box, target = outputs[:, :4], batch["box"]
        logits, votes = end_points["vote_logits"], end_points["votes"]
        inside = _inside(target, *logits.shape[1:])
        of_votes = jnp.sum(inside * (1 - generalized_iou(votes, target[:, None, None])), axis=(1, 2))
        overlap = jax.lax.stop_gradient(iou(box, target))
        return (
            (1 - generalized_iou(box, target))
            + jnp.abs(box - target).sum(axis=-1)
            + 0.5 * of_votes / jnp.maximum(inside.sum(axis=(1, 2)), 1)
            + optax.losses.sigmoid_binary_cross_entropy(logits, inside).mean(axis=(1, 2))
            + optax.losses.sigmoid_binary_cross_entropy(outputs[:, 4], overlap)
        )

    def metric_sums(self, outputs: Float[Array, "b k"], batch: Mapping[str, Array]) -> dict[str, Array]:
        box, target, mask = outputs[:, :4], batch["box"], batch["mask"]
        return {
            "loss": jnp.sum(1 - generalized_iou(box, target), where=mask),
            "correct": jnp.sum(iou(box, target), where=mask),
        }

    def validation_metrics(
        self, outputs: Float[np.ndarray, "n k"], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        box, target = outputs[:, :4].astype(np.float64), targets["box"].astype(np.float64)
        return {
            "loss": float((1 - generalized_iou(box, target)).mean()),
            "mean_iou": float(iou(box, target).mean()),
        }


def _inside(boxes: Float[Array, "b 4"], height: int, width: int) -> Float[Array, "b h w"]:
    """1 for the cells of a feature map whose centre lies in the ellipse of the box, or within half a cell of it."""
    y = (jnp.arange(height) + 0.5)[:, None] / height
    x = (jnp.arange(width) + 0.5)[None, :] / width
    left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
    across = (x - (left + right) / 2) / ((right - left + 1 / width) / 2)
    down = (y - (top + bottom) / 2) / ((bottom - top + 1 / height) / 2)
    return (across**2 + down**2 < 1).astype(boxes.dtype)


def make_task(config: ml_collections.ConfigDict) -> Task:
    """The task that `config.task` names."""
    if config.task == "localise":
        return Localisation()
    loss = config.loss
    return Classification(tuple(loss.class_weights), loss.label_smoothing, loss.ambiguity)
