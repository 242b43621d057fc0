"""What recalibration for a site brings, measured on photographs that it was not fitted on.

The whole procedure is cross-fitted: of each fold of cases the others choose and fit the scaling, the sets and the
threshold. Intervals are by bootstrap over cases of what was said of each photograph; how differently another sample
would have fitted is not in them.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest

from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.inference import clinical_metrics
from cervix_jax.inference.bootstrap import PERCENTILES, group_samples, reflected
from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.clinical_metrics import none_if_nan, scalar_metrics
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.labelled import folder_photographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.shift import decide_use, shift_tests
from cervix_jax.inference.site_calibration import FOLDS, SiteCalibration, calibrate_site, check_enough, log_losses
from cervix_jax.labels import ABLATABLE, CLASS_NAMES
from cervix_jax.training.metrics import expected_calibration_error

PROPORTIONS = ("coverage", "unsafe_rate", "accuracy")


@dataclasses.dataclass(frozen=True)
class Said:
    """What was said of n photographs.

    Attributes:
      probabilities: rows sum to one.
      types: that each was called, 0 to k - 1.
      sets: types that it may be; None where nothing says so.
    """

    probabilities: Float[np.ndarray, "n k"]
    types: Int[np.ndarray, "n"]
    sets: Bool[np.ndarray, "n k"] | None

    @classmethod
    def by(
        cls,
        calibration: Calibration | None,
        probabilities: Float[np.ndarray, "n k"],
        by_fold: Float[np.ndarray, "f n k"] | None,
        coverage: float,
        unsafe_rate: float | None,
    ) -> "Said":
        """By a calibration, or by uncalibrated probabilities alone, which have no sets and call the likeliest type."""
        if calibration is None:
            return cls(probabilities, probabilities.argmax(axis=1), None)
        after, crossed = calibration.apply(probabilities), calibration.crossed(probabilities, by_fold)
        return cls(after, *DecisionRule.fit(calibration, coverage, unsafe_rate).apply(after, crossed))


def recalibrate(
    predictor: Predictor,
    folder: Path,
    case_pattern: str | None = None,
    *,
    coverage: float = 0.9,
    unsafe_rate: float | None = 0.05,
    batch_size: int = 32,
) -> SiteCalibration:
    """The calibration of a site from a folder of labelled photographs.

    Args:
      predictor: uncalibrated.
      folder: see `folder_photographs`; near-duplicates of what a run has seen are left out.
      case_pattern: likewise.
      coverage: of the sets that are reported.
      unsafe_rate: fraction of types 2 and 3 that may be called type 1, likewise; None for predictors of two classes.
      batch_size: photographs a step.

    Returns:
      `measured` has also the numbers of `photographs` and `groups`, those `skipped` and `seen`, what was `asked`, and
      what `compare_said` returns (`before` is by the calibration that the predictor has had, if any), `shift` (see
      `shift_tests`), and the `decision` (see `decide_use`).

    Raises:
      CalibrationError: there are too few photographs, see `check_enough`.
    """
    unsafe_rate = unsafe_rate if predictor.class_names == CLASS_NAMES else None
    cases = folder_photographs(predictor, folder, case_pattern)
    labels, groups, ids = cases.labels, cases.groups, cases.ids
    check_enough(labels, groups, predictor.class_names)
    probabilities, by_fold, _ = predictor.distributions(cases.photographs, batch_size)
    digests = [photograph.digest for photograph in cases.photographs]
    made = calibrate_site(probabilities, labels, ids, groups, digests)
    earlier = Calibration.load(predictor.calibration_path, predictor.identity)
    before = Said.by(earlier, probabilities, by_fold, coverage, unsafe_rate)
    after = cross_fitted(probabilities, labels, ids, groups, coverage, unsafe_rate)
    measured = {
        "photographs": len(labels),
        "groups": len(np.unique(groups)),
        "skipped": list(cases.skipped),
        "seen": list(cases.seen),
        "asked": {"coverage": coverage, "unsafe_rate": unsafe_rate},
        **made.measured,
        **compare_said(before, after, labels, ids, groups, predictor.class_names),
        "shift": shift_tests(predictor, cases.photographs, groups, batch_size),
    }
    measured |= decide_use(measured, len(labels))
    return dataclasses.replace(made, measured=measured)


def cross_fitted(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    ids: Sequence[str],
    groups: Int[np.ndarray, "n"],
    coverage: float,
    unsafe_rate: float | None,
) -> Said:
    """What the calibration of a site says of each photograph when it is made of the others; see `calibrate_site`."""
    folds = stratified_folds(ids, labels, FOLDS, groups)
    parts: list[Said] = []
    order = []
    for fold in range(FOLDS):
        rows, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        made = calibrate_site(probabilities[others], labels[others], [ids[i] for i in others.tolist()], groups[others])
        parts.append(Said.by(made, probabilities[rows], None, coverage, unsafe_rate))
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    sets = np.concatenate([part.sets for part in parts if part.sets is not None])
    joined = [np.concatenate([getattr(part, name) for part in parts])[back] for name in ("probabilities", "types")]
    return Said(joined[0], joined[1], sets[back])


def compare_said(
    before: Said,
    after: Said,
    labels: Int[np.ndarray, "n"],
    ids: Sequence[str],
    groups: Int[np.ndarray, "n"],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Both measured, with 95 % intervals, and what guessing would give.

    Returns:
      `before` and `after`: `loss`, `ece`, `coverage` and `mean_size` of the sets, `unsafe_rate`, `accuracy`, `kappa`
      by the types that were called, `auroc`; `intervals` of both and of their `difference`; `guessing`: the `loss` of
      the site's shares of types, cross-fitted, `difference` (`after` less guessing), its `interval`, and the `verdict`:
      'better than guessing', 'worse than guessing' or 'cannot be told from guessing'; `to_halve`: how many `cases` and
      `photographs` more would halve the interval of the coverage, whose width goes with the root of their number.
    """

    def measure(said: Said, rows: np.ndarray) -> dict[str, float]:
        p, y = said.probabilities[rows], labels[rows]
        scalars = scalar_metrics(p, y, class_names, said.types[rows])
        held = None if said.sets is None else said.sets[rows]
        return {
            "loss": scalars["loss"],
            "ece": expected_calibration_error(p, y),
            "coverage": float("nan") if held is None else float(held[np.arange(len(y)), y].mean()),
            "mean_size": float("nan") if held is None else float(held.sum(axis=1).mean()),
            **{name: scalars[name] for name in ("unsafe_rate", "accuracy", "kappa", "auroc") if name in scalars},
        }

    everything, folds = np.arange(len(labels)), stratified_folds(ids, labels, FOLDS, groups)
    guess = _guessing(labels, folds, len(class_names))
    points = [measure(said, everything) for said in (before, after)]
    losses = log_losses(after.probabilities, labels)
    drawn: list[list[float]] = []
    for rows in group_samples(groups, clinical_metrics.RESAMPLES):
        first, second = (list(measure(said, rows).values()) for said in (before, after))
        gain = float((losses - guess)[rows].mean())
        drawn.append([*first, *second, *(b - a for a, b in zip(first, second, strict=True)), gain])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what no sample defines
        limits = np.nanpercentile(np.array(drawn), PERCENTILES, axis=0).T
    names = list(points[0])
    intervals: dict[str, dict[str, Any]] = {}
    for place, kind in enumerate(("before", "after", "difference")):
        part = limits[place * len(names) : (place + 1) * len(names)]
        intervals[kind] = {
            name: [none_if_nan(x) for x in limit] for name, limit in zip(names, part.tolist(), strict=True)
        }
    for kind, point in zip(("before", "after"), points, strict=True):
        exact = {name: _exact(name, value, labels, groups) for name, value in point.items()}
        intervals[kind] |= {name: limit for name, limit in exact.items() if limit is not None}
        intervals[kind]["ece"] = list(reflected(point["ece"], *intervals[kind]["ece"]))
    low, high = limits[-1].tolist()
    verdict = "better than" if high < 0 else "worse than" if low > 0 else "cannot be told from"
    return {
        "before": {name: none_if_nan(value) for name, value in points[0].items()},
        "after": {name: none_if_nan(value) for name, value in points[1].items()},
        "intervals": intervals,
        "guessing": {
            "loss": float(guess.mean()),
            "difference": float((losses - guess).mean()),
            "interval": [low, high],
            "verdict": f"{verdict} guessing",
        },
        "to_halve": {"cases": 3 * len(np.unique(groups)), "photographs": 3 * len(labels)},
    }


def _guessing(labels: Int[np.ndarray, "n"], folds: Int[np.ndarray, "n"], k: int) -> Float[np.ndarray, "n"]:
    """Loss of each photograph by the shares of types in the other folds, by which it would also be calibrated."""
    losses = np.zeros(len(labels))
    for fold in range(FOLDS):
        rows = folds == fold
        shares = np.bincount(labels[~rows], minlength=k) + 1.0  # Laplace's rule
        losses[rows] = -np.log(shares / shares.sum())[labels[rows]]
    return losses


def _exact(name: str, value: float, labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"]) -> list[float] | None:
    """The interval of a proportion that is 0 or 1, which has no spread in samples; with cases as trials."""
    if name not in PROPORTIONS or value not in (0.0, 1.0):
        return None
    cases = len(np.unique(groups[labels != ABLATABLE] if name == "unsafe_rate" else groups))
    return list(map(float, binomtest(round(value * cases), cases).proportion_ci(0.95, "exact")))
