"""Probabilities that can be taken at their word: a temperature, fitted on photographs that nothing else is fitted on.

Validation is halved, types spread evenly and near-duplicates kept together: one half fits the temperature (Guo et al.
2017), the other is the reference from which prediction sets and thresholds are chosen (`conformal.py`). Both halves
were used to choose the epoch, so calibration errs on the side of confidence by as much as that choice flatters.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from cervix_jax.atomic import write_atomic
from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.errors import UserError
from cervix_jax.inference.array_namespace import ArrayT, namespaces
from cervix_jax.inference.conformal import repeated_splits
from cervix_jax.progress import log
from cervix_jax.training.metrics import cross_entropy, expected_calibration_error

COVERAGES = (0.8, 0.9, 0.95)  # of prediction sets, that are measured
MIN_PHOTOGRAPHS = 6  # in each half; with fewer a temperature says nothing
TEMPERATURE_BOUNDS = (0.05, 20.0)


class CalibrationError(UserError):
    """There is no calibration, or too few photographs to make one from."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was fitted for one predictor.

    Attributes:
      temperature: divides logits; above 1 less sure, below 1 surer.
      probabilities: calibrated, of the reference photographs.
      labels: of the reference photographs, 0 to k - 1.
      measured: how good it is on the reference, ready for JSON; see `calibrate`.
    """

    temperature: float
    probabilities: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    measured: dict[str, Any]

    def apply(self, probabilities: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Calibrates probabilities of the predictor that this was fitted for."""
        return apply_temperature(probabilities, self.temperature)

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        arrays = {"probabilities": self.probabilities.tolist(), "labels": self.labels.tolist()}
        write_atomic(path, json.dumps(dataclasses.asdict(self) | arrays, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Calibration | None":
        """Reads what `save` wrote; None if there is no such file."""
        if not path.exists():
            return None
        fields = json.loads(path.read_text())
        arrays = {"probabilities": np.array(fields["probabilities"]), "labels": np.array(fields["labels"])}
        return cls(**(fields | arrays))


def calibrate(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    ids: Sequence[str],
    groups: Int[np.ndarray, "n"],
) -> Calibration:
    """Fits the temperature on one half of the validation photographs and measures it, and sets, on the other.

    Args:
      probabilities: uncalibrated, of the validation photographs.
      labels: their types, 0 to k - 1.
      ids: their names, by which they are halved.
      groups: near-duplicates have the same number.

    Returns:
      `measured` has `fitted_on` and `reference`: numbers of photographs; `before` and `after`, each `loss` and `ece`;
      `sets` by coverage, see `conformal.repeated_splits`.

    Raises:
      CalibrationError: there are too few photographs.
    """
    fitting, reference = halves(ids, labels, groups)
    temperature = fit_temperature(probabilities[fitting], labels[fitting])
    low, high = TEMPERATURE_BOUNDS
    if not 1.01 * low < temperature < 0.99 * high:
        log(f"the temperature is at its limit, {temperature:.3g}: too few photographs, or nothing was learnt")
    before, after = probabilities[reference], apply_temperature(probabilities[reference], temperature)
    reference_labels = labels[reference]
    measured = {
        "fitted_on": int(fitting.sum()),
        "reference": int(reference.sum()),
        "before": _loss_and_ece(before, reference_labels),
        "after": _loss_and_ece(after, reference_labels),
        "sets": {str(coverage): repeated_splits(after, reference_labels, coverage) for coverage in COVERAGES},
    }
    return Calibration(temperature, after, reference_labels, measured)


def apply_temperature(probabilities: Float[ArrayT, "n k"], temperature: float) -> Float[ArrayT, "n k"]:
    """softmax(log p / temperature): what dividing the logits of p does; above 1 less sure, below 1 surer."""
    if temperature == 1:
        return probabilities
    numpy, special = namespaces(probabilities)
    tiny = numpy.finfo(probabilities.dtype).tiny
    return special.softmax(numpy.log(numpy.maximum(probabilities, tiny)) / temperature, axis=1)


def fit_temperature(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    """The temperature of least cross-entropy (Guo et al. 2017, section 4.2), within TEMPERATURE_BOUNDS.

    The cross-entropy is convex in the inverse temperature, so there is one minimum.
    """
    logits = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    true_logits = logits[np.arange(len(labels)), labels]

    def loss(inverse: float) -> float:  # not clipped, as the metric is, or it would have flat parts
        return float((logsumexp(inverse * logits, axis=1) - inverse * true_logits).mean())

    low, high = TEMPERATURE_BOUNDS
    minimum = minimize_scalar(loss, bounds=(1 / high, 1 / low), method="bounded", options={"xatol": 1e-7})
    return float(1 / minimum.x)


def halves(
    ids: Sequence[str], labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"]
) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Which photographs fit the temperature, and which are the reference; by a hash of the name.

    Raises:
      CalibrationError: there are too few, or too many are near-duplicates of each other.
    """
    fold = stratified_folds(ids, labels, 2, groups) if len(labels) and labels.min() >= 0 else np.zeros(0, int)
    fitting, reference = fold == 0, fold == 1
    if min(fitting.sum(), reference.sum()) < MIN_PHOTOGRAPHS:
        raise CalibrationError(
            f"calibration needs {MIN_PHOTOGRAPHS} labelled validation photographs in each half, near-duplicates "
            f"together; there are {fitting.sum()} and {reference.sum()}"
        )
    return fitting, reference


def _loss_and_ece(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> dict[str, float]:
    return {
        "loss": cross_entropy(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
    }
