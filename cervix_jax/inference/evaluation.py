"""A predictor measured: on a split of its data, or on any labelled folder (external validation)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.errors import UserError
from cervix_jax.inference.calibration import COVERAGES, Calibration, halves
from cervix_jax.inference.clinical_metrics import detailed_metrics, none_if_nan, scalar_metrics
from cervix_jax.inference.conformal import ablation_threshold, decide, describe_sets
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.robustness import robustness
from cervix_jax.inference.shift import shift
from cervix_jax.inference.site_calibration import SiteCalibration
from cervix_jax.training import metrics


class UnlabelledError(UserError):
    """The types of photographs are not known."""


def evaluate(
    predictor: Predictor,
    cases: LabelledPhotographs,
    *,
    unsafe_rate: float | None = None,
    robust: bool = False,
    batch_size: int = 32,
) -> tuple[dict[str, Any], Float[np.ndarray, "n k"]]:
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
      `detailed_metrics`, ready for JSON, and `calibrated`, if there is a calibration (that of a site is measured on
      folders alone); for photographs of a folder `shift`, and `skipped` and `seen` ones. And the uncalibrated
      probabilities.

    Raises:
      UnlabelledError: there are photographs without labels.
      CalibrationError, DecisionRuleError: see `DecisionRule.fit`.
    """
    if cases.labels.min() < 0:
        raise UnlabelledError("photographs without labels cannot be measured; this split has some")
    calibration, uncalibrated = predictor.calibration, predictor.uncalibrated
    DecisionRule.fit(calibration, unsafe_rate=unsafe_rate)  # raises before minutes of work
    if uncalibrated.is_cross_validated and cases.held_out is None:
        probabilities, by_fold = uncalibrated.distributions(cases.photographs, batch_size)
    else:
        probabilities, by_fold = cases.probabilities(uncalibrated, batch_size), None
    results = detailed_metrics(probabilities, cases.labels, predictor.class_names, cases.groups)
    if calibration is not None and not (isinstance(calibration, SiteCalibration) and cases.origin != "folder"):
        results |= _calibrated_results(calibration, cases, probabilities, by_fold, predictor.class_names, unsafe_rate)
    if robust:
        results["robustness"] = robustness(cases.parts(uncalibrated), probabilities, batch_size)
    if cases.origin == "folder":
        reference = predictor.quality_reference
        results |= {"skipped": list(cases.skipped), "seen": list(cases.seen)}
        results["shift"] = shift(reference, cases.photographs) if reference else None
    return results, probabilities


def _calibrated_results(
    calibration: Calibration,
    cases: LabelledPhotographs,
    probabilities: Float[np.ndarray, "n k"],
    by_fold: Float[np.ndarray, "f n k"] | None,
    class_names: Sequence[str],
    unsafe_rate: float | None,
) -> dict[str, Any]:
    """What is reported of a calibration, on photographs that did not choose its numbers.

    Returns:
      `calibrated`: `temperature`; `num_examples`; `before` and `after`, each `loss`, `ece`, `brier`; `sets` by
      coverage: of the reference as means over random halves of it, of others as they are. With an unsafe rate
      `operating_point`. Of a site's calibration `in_reference` too: how many photographs it was made from, which are
      left out here; if nothing else is left, only `cross_fitted`: what was measured when it was made.
    """
    labels, after = cases.labels, calibration.apply(probabilities)
    is_reference = cases.origin == "validation"
    measured = chosen_otherwise = np.ones(len(labels), bool)
    if isinstance(calibration, SiteCalibration):
        known = set(calibration.digests)
        measured = chosen_otherwise = np.array([photo.digest not in known for photo in cases.photographs], bool)
        if not measured.any():
            cross_fitted = {name: calibration.measured[name] for name in ("before", "after", "intervals")}
            return {"calibrated": {"in_reference": len(labels), "cross_fitted": cross_fitted}}
    elif cases.folds is not None:
        after = calibration.probabilities
    elif is_reference:
        chosen_otherwise, measured = halves(cases.ids, labels, cases.groups)
    sets = calibration.measured["sets"] if is_reference else None
    if sets is None:
        crossed = calibration.crossed(probabilities, by_fold)
        rules = {coverage: DecisionRule.fit(calibration, coverage) for coverage in COVERAGES}
        sets = {
            str(c): describe_sets(rule.apply(after, crossed)[1][measured], labels[measured])
            for c, rule in rules.items()
        }
    results: dict[str, Any] = {
        "calibrated": {
            "temperature": calibration.temperature,
            "num_examples": int(measured.sum()),
            "before": _proper_scores(probabilities[measured], labels[measured]),
            "after": _proper_scores(after[measured], labels[measured]),
            "sets": sets,
        }
        | ({"in_reference": int((~measured).sum())} if isinstance(calibration, SiteCalibration) else {})
    }
    if unsafe_rate is not None:
        rows = chosen_otherwise
        if cases.folds is not None:
            types = cross_fitted_types(calibration, cases.folds, unsafe_rate)
        else:
            types, _ = DecisionRule.fit(calibration, unsafe_rate=unsafe_rate).apply(after[rows])
        described = DecisionRule.fit(calibration, unsafe_rate=unsafe_rate).describe()
        results["operating_point"] = described | operating_point(after[rows], labels[rows], class_names, types)
    return results


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
