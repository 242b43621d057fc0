"""A predictor measured: on a split of its data, or on any labelled folder (external validation)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.errors import UserError
from cervix_jax.inference.calibration import COVERAGES, Calibration, halves
from cervix_jax.inference.clinical_metrics import detailed_metrics, none_if_nan, scalar_metrics
from cervix_jax.inference.conformal import ablation_threshold, decide, describe_sets, prediction_sets, set_threshold
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.robustness import robustness
from cervix_jax.inference.shift import shift
from cervix_jax.inference.site_calibration import SiteCalibration
from cervix_jax.training import metrics

SET_COVERAGE = 0.9  # of the prediction set that is told of each photograph


class UnlabelledError(UserError):
    """The types of photographs are not known."""


class Evaluation(NamedTuple):
    """A predictor measured on n photographs.

    Attributes:
      metrics: ready for JSON, see `evaluate`.
      probabilities: uncalibrated.
      calibrated: probabilities after the temperature; None without a calibration.
      sets: types in the set of each photograph at `SET_COVERAGE`; None without a calibration. Those of the reference
        photographs are by a threshold that they helped to choose.
    """

    metrics: dict[str, Any]
    probabilities: Float[np.ndarray, "n k"]
    calibrated: Float[np.ndarray, "n k"] | None = None
    sets: Bool[np.ndarray, "n k"] | None = None


def evaluate(
    predictor: Predictor,
    cases: LabelledPhotographs,
    *,
    unsafe_rate: float | None = None,
    robust: bool = False,
    batch_size: int = 32,
) -> Evaluation:
    """Measures a predictor on labelled photographs.

    All numbers are of uncalibrated probabilities but those of `calibrated` and `operating_point`, so that they do not
    depend on what was fitted afterwards.

    Args:
      predictor: with its calibration, if there is one.
      cases: n labelled photographs.
      unsafe_rate: adds `operating_point`, see `conformal.ablation_threshold`.
      robust: adds `robustness`.
      batch_size: photographs a step.

    Returns:
      Its metrics are `detailed_metrics`, and `calibrated`, if there is a calibration (that of a site is measured on
      folders alone); for photographs of a folder `shift`, and `skipped` and `seen` ones.

    Raises:
      UnlabelledError: there are photographs without labels.
      CalibrationError, DecisionRuleError: see `DecisionRule.fit`.
    """
    if cases.labels.min() < 0:
        raise UnlabelledError("photographs without labels cannot be measured; this split has some")
    calibration, uncalibrated = predictor.calibration, predictor.uncalibrated
    DecisionRule.fit(calibration, unsafe_rate=unsafe_rate)  # raises before minutes of work
    if uncalibrated.is_cross_validated and cases.held_out is None:
        probabilities, by_fold, _ = uncalibrated.distributions(cases.photographs, batch_size)
    else:
        probabilities, by_fold = cases.probabilities(uncalibrated, batch_size), None
    results = detailed_metrics(probabilities, cases.labels, predictor.class_names, cases.groups)
    after = sets = None
    if calibration is not None and not (isinstance(calibration, SiteCalibration) and cases.origin != "folder"):
        after = calibration.apply(probabilities) if cases.folds is None else calibration.probabilities
        crossed = calibration.crossed(probabilities, by_fold)
        sets = _sets(calibration, SET_COVERAGE, after, crossed)
        results |= _calibrated_results(calibration, cases, probabilities, after, crossed)
        if unsafe_rate is not None and _chose_nothing(calibration, cases).any():
            results["operating_point"] = _at_unsafe_rate(calibration, cases, after, predictor.class_names, unsafe_rate)
    if robust:
        results["robustness"] = robustness(cases.parts(uncalibrated), probabilities, batch_size)
    if cases.origin == "folder":
        reference = predictor.quality_reference
        results |= {"skipped": list(cases.skipped), "seen": list(cases.seen)}
        results["shift"] = shift(reference, cases.photographs) if reference else None
    return Evaluation(results, probabilities, after, sets)


def _calibrated_results(
    calibration: Calibration,
    cases: LabelledPhotographs,
    before: Float[np.ndarray, "n k"],
    after: Float[np.ndarray, "n k"],
    by_fold: Float[np.ndarray, "f n k"] | None,
) -> dict[str, Any]:
    """What is reported of a calibration, on photographs that did not choose its temperature.

    Returns:
      `calibrated`: `temperature`; `num_examples`; `before` and `after`, each `loss`, `ece`, `brier`; `reliability`
      after; `sets` by coverage: of the reference as means over random halves of it, of others as they are. Of a site's
      calibration `in_reference` too: how many photographs it was made from, which are left out here; if nothing else is
      left, only `cross_fitted`: what was measured when it was made.
    """
    labels, is_reference = cases.labels, cases.origin == "validation"
    measured = _chose_nothing(calibration, cases)
    if is_reference and cases.folds is None:
        measured = halves(cases.ids, labels, cases.groups)[1]
    if not measured.any():
        cross_fitted = {name: calibration.measured[name] for name in ("before", "after", "intervals")}
        return {"calibrated": {"in_reference": len(labels), "cross_fitted": cross_fitted}}
    sets = calibration.measured["sets"] if is_reference else None
    if sets is None:
        by_coverage = {c: _sets(calibration, c, after, by_fold)[measured] for c in COVERAGES}
        sets = {str(c): describe_sets(of_coverage, labels[measured]) for c, of_coverage in by_coverage.items()}
    return {
        "calibrated": {
            "temperature": calibration.temperature,
            "num_examples": int(measured.sum()),
            "before": _proper_scores(before[measured], labels[measured]),
            "after": _proper_scores(after[measured], labels[measured]),
            "reliability": metrics.reliability(after[measured], labels[measured]),
            "sets": sets,
        }
        | ({"in_reference": int((~measured).sum())} if isinstance(calibration, SiteCalibration) else {})
    }


def _chose_nothing(calibration: Calibration, cases: LabelledPhotographs) -> Bool[np.ndarray, "n"]:
    """Mask of the photographs that a site's calibration was not made from; of another calibration all."""
    if not isinstance(calibration, SiteCalibration):
        return np.ones(len(cases.ids), bool)
    known = set(calibration.digests)
    return np.array([photograph.digest not in known for photograph in cases.photographs], bool)


def _sets(
    calibration: Calibration,
    coverage: float,
    calibrated: Float[np.ndarray, "n k"],
    by_fold: Float[np.ndarray, "f n k"] | None,
) -> Bool[np.ndarray, "n k"]:
    """Prediction sets as `predict` makes them; of the reference of a cross-validation by its threshold."""
    if by_fold is not None:
        return DecisionRule.fit(calibration, coverage).apply(calibrated, by_fold)[1]
    known = calibration
    return prediction_sets(calibrated, set_threshold(known.probabilities, known.labels, coverage, known.groups))


def _at_unsafe_rate(
    calibration: Calibration,
    cases: LabelledPhotographs,
    calibrated: Float[np.ndarray, "n k"],
    class_names: Sequence[str],
    unsafe_rate: float,
) -> dict[str, Any]:
    """`operating_point` on photographs that did not choose the threshold, and the rule."""
    rule, labels = DecisionRule.fit(calibration, unsafe_rate=unsafe_rate), cases.labels
    rows = np.flatnonzero(_chose_nothing(calibration, cases))
    if cases.folds is not None:
        types = cross_fitted_types(calibration, cases.folds, unsafe_rate)
    else:
        if cases.origin == "validation":
            rows = np.flatnonzero(halves(cases.ids, labels, cases.groups)[0])
        types, _ = rule.apply(calibrated[rows])
    return rule.describe() | operating_point(calibrated[rows], labels[rows], class_names, types)


def _proper_scores(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> dict[str, float]:
    return {
        "loss": metrics.cross_entropy(probabilities, labels),
        "ece": metrics.expected_calibration_error(probabilities, labels),
        "brier": metrics.brier_score(probabilities, labels),
    }


def operating_point(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    class_names: Sequence[str],
    types: Int[np.ndarray, "n"],
) -> dict[str, Any]:
    """Errors of types that were called by a threshold which other photographs chose.

    Args:
      probabilities: calibrated.
      labels: true types, 0 to k - 1.
      class_names: the three types.
      types: that each photograph is called, 0 to k - 1.
    """
    scalars = scalar_metrics(probabilities, labels, class_names, types)
    reported = ["unsafe_rate", "accuracy", "kappa", *(f"sensitivity/{name}" for name in class_names)]
    return {"num_examples": len(labels)} | {name: none_if_nan(scalars[name]) for name in reported}


def cross_fitted_types(
    calibration: Calibration, folds: Int[np.ndarray, "n"], unsafe_rate: float
) -> Int[np.ndarray, "n"]:
    """What the reference photographs are called by `--unsafe_rate`, those of a fold by the threshold of the others.

    Args:
      calibration: of a cross-validation.
      folds: of its n reference photographs.
      unsafe_rate: see `conformal.ablation_threshold`.
    """
    probabilities, labels, groups = calibration.probabilities, calibration.labels, calibration.groups
    types = np.zeros(len(labels), int)
    for fold in np.unique(folds).tolist():
        rows = folds == fold
        others = None if groups is None else groups[~rows]
        threshold = ablation_threshold(probabilities[~rows], labels[~rows], unsafe_rate, others)
        types[rows] = decide(probabilities[rows], threshold)
    return types
