"""Probabilities that can be taken at their word: a temperature, fitted on photographs that nothing else is fitted on.

Validation is halved, types spread evenly and near-duplicates kept together: one half fits the temperature (Guo et al.
2017), the other is the reference from which prediction sets and thresholds are chosen (`conformal.py`). Both halves
were used to choose the epoch, so calibration errs on the side of confidence by as much as that choice flatters.

Of a cross-validation every photograph is in the reference, with probabilities by the run that held it out and a
temperature fitted on the other folds; the temperature for new photographs is fitted on all. These are judged by the
mean of all runs, which is less sure than one, so that their temperature and the threshold of `--unsafe_rate` are those
of single runs: assumed to err on the side of caution. Sets need no such assumption (`conformal.cv_plus_sets`).

A temperature that makes the reference worse is not used: it stays 1, and the calibration says why.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from cervix_jax.atomic import write_atomic
from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.errors import UserError
from cervix_jax.inference.array_namespace import ArrayT, namespaces
from cervix_jax.inference.case_predictions import best_rule
from cervix_jax.inference.conformal import repeated_splits
from cervix_jax.progress import log
from cervix_jax.training.metrics import cross_entropy, expected_calibration_error

COVERAGES = (0.8, 0.9, 0.95)  # of prediction sets, that are measured
MIN_PHOTOGRAPHS = 6  # in each half; with fewer a temperature says nothing
TEMPERATURE_BOUNDS = (0.05, 20.0)
CalibrationT = TypeVar("CalibrationT", bound="Calibration")


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
      folds: of a cross-validation, the fold that held out each reference photograph.
      fold_temperatures: by which the probabilities of the runs of each fold, in order, were calibrated.
      groups: near-duplicates and the photographs of a case have the same number; None in older files, for each alone.
    """

    temperature: float
    probabilities: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]
    measured: dict[str, Any]
    folds: Int[np.ndarray, "n"] | None = None
    fold_temperatures: tuple[float, ...] = ()
    groups: Int[np.ndarray, "n"] | None = None

    def apply(self, probabilities: Float[ArrayT, "n k"]) -> Float[ArrayT, "n k"]:
        """Calibrates probabilities of the predictor that this was fitted for."""
        return apply_temperature(probabilities, self.temperature)

    def crossed(
        self, probabilities: Float[np.ndarray, "n k"], by_fold: Float[np.ndarray, "f n k"] | None
    ) -> Float[np.ndarray, "f n k"] | None:
        """What is compared with the reference photographs of each fold, calibrated as these were; None without folds.

        Args:
          probabilities: of the predictor, uncalibrated.
          by_fold: of a cross-validation, those of the runs of each fold.
        """
        if by_fold is None:
            return None
        pairs = zip(by_fold, self.fold_temperatures, strict=True)
        return np.stack([apply_temperature(of_fold, temperature) for of_fold, temperature in pairs])

    def save(self, path: Path, predictor: str) -> None:
        """Writes it as JSON, with a checksum.

        Args:
          path: of the file.
          predictor: `Predictor.identity` of the one that it was fitted for.
        """
        arrays = {"probabilities": self.probabilities.tolist(), "labels": self.labels.tolist()}
        arrays |= {name: None if (x := getattr(self, name)) is None else x.tolist() for name in ("folds", "groups")}
        fields = {"predictor": predictor} | dataclasses.asdict(self) | arrays
        write_atomic(path, json.dumps(fields | {"sha256": _checksum(fields)}, indent=2) + "\n")

    @classmethod
    def load(cls: type[CalibrationT], path: Path, predictor: str) -> CalibrationT | None:
        """Reads what `save` wrote for a predictor; None if there is no such file.

        Raises:
          CalibrationError: the file is damaged, or was made for another predictor or by an older version.
        """
        if not path.exists():
            return None
        try:
            fields = json.loads(path.read_text())
            if fields.pop("sha256", None) != _checksum(fields):
                raise ValueError("its checksum does not fit its content")
            if fields.pop("predictor") != predictor:
                raise ValueError("it was made for other runs or other flags")
            calibration = cls(**cls._from_json(fields))
            calibration._check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
            raise CalibrationError(
                f"{path} cannot be used: {error}; run python -m cervix_jax.calibrate again, which replaces it"
            ) from error
        return calibration

    @classmethod
    def _from_json(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """The attributes that a file holds, arrays as arrays."""
        arrays = {name: None if fields.get(name) is None else np.array(fields[name]) for name in ("folds", "groups")}
        return fields | {
            "probabilities": np.array(fields["probabilities"], float),
            "labels": np.array(fields["labels"]),
            "fold_temperatures": tuple(fields["fold_temperatures"]),
            **arrays,
        }

    def _check(self) -> None:
        """Raises ValueError for numbers that no calibration has."""
        low, high = TEMPERATURE_BOUNDS
        if not low <= self.temperature <= high:  # as NaN is not
            raise ValueError(f"its temperature is {self.temperature}, not within {low} to {high}")
        if not all(low <= temperature <= high for temperature in self.fold_temperatures):
            raise ValueError(f"a temperature of its folds is not within {low} to {high}")
        p, labels = self.probabilities, self.labels
        if p.ndim != 2 or not np.allclose(p.sum(axis=1), 1, atol=1e-6) or not (p >= 0).all():
            raise ValueError("its probabilities are no distributions")
        if labels.shape != p.shape[:1] or labels.dtype.kind != "i" or not ((labels >= 0) & (labels < p.shape[1])).all():
            raise ValueError("its labels do not fit its probabilities")
        if self.folds is not None and (
            self.folds.shape != labels.shape or len(np.unique(self.folds)) != self._num_folds()
        ):
            raise ValueError("its folds do not fit its probabilities")
        if self.groups is not None and self.groups.shape != labels.shape:
            raise ValueError("its groups do not fit its probabilities")

    def _num_folds(self) -> int:
        """How many folds there should be."""
        return len(self.fold_temperatures)


def calibrate(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    ids: Sequence[str],
    groups: Int[np.ndarray, "n"],
    folds: Int[np.ndarray, "n"] | None = None,
) -> Calibration:
    """Fits the temperature on one half of the validation photographs and measures it, and sets, on the other.

    Args:
      probabilities: uncalibrated, of the validation photographs.
      labels: their types, 0 to k - 1.
      ids: their names, by which they are halved.
      groups: near-duplicates have the same number.
      folds: of a cross-validation, the fold that held out each photograph: all are reference, each with the temperature
        that the other folds fit.

    Returns:
      `measured` has `fitted_on` and `reference`: numbers of photographs; `before` and `after`, each `loss` and `ece`;
      `cases`: how photographs of a case are combined, see `case_predictions.best_rule`;
      `kept`: why the temperature is 1 instead of a fitted one, None if it is not; `sets` by coverage, see
      `conformal.repeated_splits`.

    Raises:
      CalibrationError: there are too few photographs.
    """
    if folds is None:
        pairs = [halves(ids, labels, groups)]
    else:
        pairs = [(folds != fold, folds == fold) for fold in np.unique(folds).tolist()]
        if min(reference.sum() for _, reference in pairs) < MIN_PHOTOGRAPHS:
            raise CalibrationError(f"calibration needs {MIN_PHOTOGRAPHS} labelled photographs in each fold")
    fitted = np.any([fitting for fitting, _ in pairs], axis=0)
    reference = np.any([reference for _, reference in pairs], axis=0)
    temperatures = [fit_temperature(probabilities[fitting], labels[fitting]) for fitting, _ in pairs]
    after = probabilities.copy()
    for (_, rows), found in zip(pairs, temperatures, strict=True):
        after[rows] = apply_temperature(probabilities[rows], found)
    temperature = fit_temperature(probabilities[fitted], labels[fitted])
    before, after, reference_labels = probabilities[reference], after[reference], labels[reference]
    reference_groups = groups[reference]
    kept = _why_keep_one(temperature, before, after, reference_labels)
    if kept is not None:
        log(f"the temperature stays 1: {kept}")
        temperature, temperatures, after = 1.0, [1.0] * len(pairs), before
    measured = {
        "fitted_on": int(fitted.sum()),
        "reference": int(reference.sum()),
        "before": _loss_and_ece(before, reference_labels),
        "after": _loss_and_ece(after, reference_labels),
        "kept": kept,
        "cases": best_rule(after, reference_labels, reference_groups),
        "sets": {str(c): repeated_splits(after, reference_labels, c, reference_groups) for c in COVERAGES},
    }
    if folds is None:
        return Calibration(temperature, after, reference_labels, measured, groups=reference_groups)
    return Calibration(temperature, after, reference_labels, measured, folds, tuple(temperatures), reference_groups)


def _why_keep_one(
    temperature: float,
    before: Float[np.ndarray, "n k"],
    after: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
) -> str | None:
    """Why a temperature is not to be used, by photographs that it was not fitted on; None if it is."""
    low, high = TEMPERATURE_BOUNDS
    if not 1.01 * low < temperature < 0.99 * high:
        return f"the best one, {temperature:.3g}, is at its limit: too few photographs, or nothing was learnt"
    losses = cross_entropy(before, labels), cross_entropy(after, labels)
    if losses[1] > losses[0]:
        return "{:.3g} makes the loss of photographs that it was not fitted on worse, {:.4f} to {:.4f}".format(
            temperature, *losses
        )
    return None


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


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
