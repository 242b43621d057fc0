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

from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.errors import UserError
from cervix_jax.inference.conformal import repeated_splits
from cervix_jax.progress import log
from cervix_jax.training.metrics import cross_entropy, expected_calibration_error

COVERAGES = (0.8, 0.9, 0.95)  # of sets, that are measured
LEAST = 6  # photographs in each half; with fewer a temperature says nothing
LIMITS = (0.05, 20.0)  # of the temperature


class CalibrationError(UserError):
    """There is no calibration, or too little to make one from."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was fitted for one predictor.

    Attributes:
      temperature: divides logits.
      probabilities: of the reference photographs, calibrated.
      labels: of them.
      measured: how good it is, for people.
    """

    temperature: float
    probabilities: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    measured: dict[str, Any]

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        what = dataclasses.asdict(self) | {"probabilities": self.probabilities.tolist(), "labels": self.labels.tolist()}
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(what, indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Calibration | None":
        """Reads it; None if there is none."""
        if not path.exists():
            return None
        what = json.loads(path.read_text())
        arrays = {"probabilities": np.array(what["probabilities"]), "labels": np.array(what["labels"])}
        return cls(**(what | arrays))


def calibrate(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    ids: Sequence[str],
    groups: Int[np.ndarray, "n"],
) -> Calibration:
    """Fits the temperature on one half of validation and measures it, and sets, on the other.

    Args:
      probabilities: of the validation photographs, as the predictor gives them uncalibrated.
      labels: of them.
      ids: their names.
      groups: near-duplicates have the same number.

    Raises:
      CalibrationError: there are too few photographs.
    """
    fitting, reference = halves(ids, labels, groups)
    temperature = fit_temperature(probabilities[fitting], labels[fitting])
    if not 1.01 * LIMITS[0] < temperature < 0.99 * LIMITS[1]:
        log(f"the temperature is at its limit, {temperature:.3g}: too few photographs, or nothing was learnt")
    before, after = probabilities[reference], apply_temperature(probabilities[reference], temperature)
    true = labels[reference]
    measured = {
        "fitted_on": int(fitting.sum()),
        "reference": int(reference.sum()),
        "before": {"loss": cross_entropy(before, true), "ece": expected_calibration_error(before, true)},
        "after": {"loss": cross_entropy(after, true), "ece": expected_calibration_error(after, true)},
        "sets": {str(coverage): repeated_splits(after, true, coverage) for coverage in COVERAGES},
    }
    return Calibration(temperature, after, true, measured)


def apply_temperature(probabilities: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """softmax(log p / temperature): what dividing the logits of p does; above 1 less sure, below 1 surer."""
    if temperature == 1:
        return probabilities
    logits = _logits(probabilities) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    """The temperature of least cross-entropy (Guo et al. 2017, section 4.2), 0.05 to 20.

    The cross-entropy is convex in the inverse temperature, so there is one minimum.
    """
    logits = _logits(probabilities)
    of_true = logits[np.arange(len(labels)), labels]

    def loss(inverse: float) -> float:  # not clipped, as the metric is, or it would have flat parts
        return float((logsumexp(inverse * logits, axis=1) - inverse * of_true).mean())

    found = minimize_scalar(loss, bounds=(1 / LIMITS[1], 1 / LIMITS[0]), method="bounded", options={"xatol": 1e-7})
    return float(1 / found.x)


def _logits(probabilities: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    return np.log(np.maximum(probabilities, np.finfo(float).tiny))


def halves(
    ids: Sequence[str], labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"]
) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Which photographs fit the temperature, and which are the reference; by a hash of the name.

    Raises:
      CalibrationError: there are too few, or too many are near-duplicates of each other.
    """
    fold = stratified_folds(ids, labels, 2, groups) if len(labels) and labels.min() >= 0 else np.zeros(0, int)
    fitting, reference = fold == 0, fold == 1
    if min(fitting.sum(), reference.sum()) < LEAST:
        raise CalibrationError(
            f"calibration needs {LEAST} labelled validation photographs in each half, near-duplicates together; "
            f"there are {fitting.sum()} and {reference.sum()}"
        )
    return fitting, reference
