"""A predictor measured: on a split of its data, or on any labelled folder (external validation)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import UserError
from cervix_jax.inference.calibration import COVERAGES, Calibration, apply_temperature, halves
from cervix_jax.inference.clinical_metrics import auroc, defined, detailed_metrics, scalars
from cervix_jax.inference.conformal import describe_sets, prediction_sets
from cervix_jax.inference.decisions import Rules
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.predictor import Photograph, Predictor
from cervix_jax.inference.robustness import robustness
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
    """Everything that is known of a predictor on labelled photographs, ready for JSON, and its probabilities.

    All numbers are of uncalibrated probabilities but those of `calibrated` and `operating_point`, so that they do not
    depend on what was fitted afterwards.

    Args:
      predictor: uncalibrated.
      cases: labelled photographs.
      unsafe_rate: adds `operating_point`, see `conformal.ablation_threshold`.
      robust: adds `robustness`.
      batch_size: a step.

    Returns:
      `detailed_metrics`; `calibrated`, if there is a calibration; for photographs of a folder `shift`, and `skipped`
      and `seen` ones.

    Raises:
      UnlabelledError: there are photographs without labels.
      CalibrationError, RulesError: see `Rules.choose`.
    """
    if cases.labels.min() < 0:
        raise UnlabelledError("photographs without labels cannot be measured; this split has some")
    calibration = Calibration.load(predictor.calibration_path)
    rules = Rules.choose(calibration, None, unsafe_rate)
    probabilities = predictor.probabilities(cases.photographs, batch_size)
    found = detailed_metrics(probabilities, cases.labels, predictor.class_names, cases.groups)
    if calibration is not None:
        fitting = halves(cases.ids, cases.labels, cases.groups)[0] if cases.origin == "validation" else None
        found["calibrated"] = calibrated_metrics(probabilities, cases.labels, calibration, fitting)
        if unsafe_rate is not None:
            after = apply_temperature(probabilities, calibration.temperature)
            found["operating_point"] = operating_point(after, cases.labels, predictor.class_names, rules, fitting)
    if robust:
        found["robustness"] = robustness(predictor, cases.photographs, probabilities, batch_size)
    if cases.origin == "folder":
        found |= {"skipped": list(cases.skipped), "seen": list(cases.seen)}
        found["shift"] = shift(predictor.quality_reference, cases.photographs) if predictor.quality_reference else None
    return found, probabilities


def calibrated_metrics(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    calibration: Calibration,
    fitting: Bool[np.ndarray, "n"] | None = None,
) -> dict[str, Any]:
    """What the temperature does to photographs that it was not fitted on, and how good sets are.

    Args:
      probabilities: uncalibrated.
      labels: of them.
      calibration: of the predictor.
      fitting: which of them fitted the temperature; the others are then the calibration's reference. None of either
        if not given.

    Returns:
      `temperature`; `num_examples` that are measured; `before` and `after`, each `loss`, `ece`, `brier`; `sets` by
      coverage: of validation photographs as means over random halves of the reference, of others as they are.
    """
    rows = np.ones(len(labels), bool) if fitting is None else ~fitting
    before, true = probabilities[rows], labels[rows]
    after = apply_temperature(before, calibration.temperature)
    if fitting is None:
        reference, known = calibration.probabilities, calibration.labels
        sets = {
            str(coverage): describe_sets(prediction_sets(after, coverage, reference, known), true)
            for coverage in COVERAGES
        }
    else:
        sets = calibration.measured["sets"]
    return {
        "temperature": calibration.temperature,
        "num_examples": int(rows.sum()),
        "before": _proper_scores(before, true),
        "after": _proper_scores(after, true),
        "sets": sets,
    }


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
    rules: Rules,
    fitting: Bool[np.ndarray, "n"] | None = None,
) -> dict[str, Any]:
    """Errors by the threshold of `--unsafe_rate`, on photographs that it was not chosen by.

    Args:
      probabilities: calibrated.
      labels: of them.
      class_names: the three types.
      rules: with a threshold.
      fitting: which of them are not the calibration's reference; all if not given.
    """
    rows = np.ones(len(labels), bool) if fitting is None else fitting
    types, _ = rules.apply(probabilities[rows])
    found = scalars(probabilities[rows], labels[rows], class_names, types)
    wanted = ["unsafe_rate", "accuracy", "kappa", *(f"sensitivity/{name}" for name in class_names)]
    return rules.describe() | {"num_examples": int(rows.sum())} | {name: defined(found[name]) for name in wanted}


def shift(reference: QualityReference, photographs: Sequence[Photograph]) -> dict[str, Any]:
    """How far photographs are from those that a run was trained on, by the scores of cleaning and quality.

    Returns:
      `scores`: of each, the `median` here, the `training_median`, and `auroc`: the probability that a photograph of
      here has less than one of the training set (0.5: no shift; densities of the training set are cross-fitted);
      `retake`: how many would be flagged, by reason.
    """
    judged = [reference.assess(photograph.scores) for photograph in photographs]
    found = {}
    for name, trained_on in reference.reference.items():
        values = np.array([quality.values[name] for quality in judged])
        trained = np.concatenate([np.zeros(len(values), bool), np.ones(len(trained_on), bool)])
        found[name] = {
            "median": float(np.median(values)),
            "training_median": float(np.median(trained_on)),
            "auroc": auroc(np.concatenate([values, trained_on]), trained),
        }
    del found["brightness"]  # darkness with another sign
    reasons = [reason for quality in judged for reason in quality.retake.split(" | ") if reason]
    retake = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return {"scores": found, "retake": retake | {"photographs": sum(bool(quality.retake) for quality in judged)}}
