"""Predictions of cases as a CSV file: what the photographs of one woman say together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervix_jax.csv_files import csv_writer
from cervix_jax.inference import conformal
from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.case_predictions import RULES, combine
from cervix_jax.inference.decisions import REFER, DecisionRule, Prediction
from cervix_jax.inference.predictor import Predictor
from cervix_jax.progress import log

CASE_COLUMNS = ("case", "photographs", "retake")  # the first ones
MIN_CASES = 20  # of several photographs, in the reference; with fewer, cases have no sets


def write_cases(
    path: Path, predictor: Predictor, of_cases: Mapping[str, Sequence[Prediction]], rule: DecisionRule | None
) -> dict[str, Any]:
    """Writes `case,photographs,retake`, probabilities, `type`, `set`, `decision`, a row a case.

    Where a coverage or an unsafe rate is asked for and the reference has too few cases to choose thresholds by, every
    case is referred, without a type or a set.

    Args:
      path: of the CSV file.
      predictor: whose calibration says how photographs of a case are combined, and has cases to choose thresholds by.
      of_cases: predictions of the photographs of each case.
      rule: of photographs; those of cases are chosen for the same coverage and unsafe rate.

    Returns:
      `output`: the file; `count`: of cases; `rule`: how photographs are combined; `chosen_on`: how many cases of
      several photographs chose it (0: nothing did); `has_sets`: whether cases have sets of the coverage asked for.
    """
    calibration, asked = predictor.calibration, rule or DecisionRule()
    known = (calibration.measured.get("cases") if calibration else None) or {"rule": RULES[0], "cases": 0}
    of_case, is_asked = None, asked.coverage is not None or asked.unsafe_rate is not None
    if calibration is not None and known["cases"] >= MIN_CASES:
        of_case = _rule_of_cases(calibration, known["rule"], asked)
    elif is_asked:
        log(
            f"every case is referred: the calibration has {known['cases']} cases of several photographs, and it takes "
            f"{MIN_CASES} to choose thresholds for cases"
        )
    names = list(of_cases)
    groups = np.repeat(np.arange(len(names)), [len(of_cases[name]) for name in names])
    photographs = [prediction for name in names for prediction in of_cases[name]]
    class_names = predictor.class_names
    p = np.array([list(each.probabilities.values()) for each in photographs]).reshape(-1, len(class_names))
    p = combine(p, groups, known["rule"])
    types, sets = (of_case or DecisionRule()).apply(p)
    with csv_writer(path) as rows:
        rows.writerow([*CASE_COLUMNS, *class_names, "type", "set", "decision"])
        for i, name in enumerate(names):
            retake = sum(bool(each.retake) and each.quality is not None for each in of_cases[name])
            held = [class_name for class_name, is_held in zip(class_names, sets[i], strict=True) if is_held]
            called = class_names[types[i]]
            if is_asked and of_case is None:
                called, held = "", []
            decision = called if held == [called] else REFER
            numbers = (f"{value:.8f}" for value in p[i])
            rows.writerow([name, len(of_cases[name]), retake, *numbers, called, " ".join(held), decision])
    return {
        "output": str(path),
        "count": len(names),
        "rule": known["rule"],
        "chosen_on": known["cases"],
        "has_sets": of_case is not None and asked.coverage is not None,
    }


def _rule_of_cases(calibration: Calibration, combined_by: str, asked: DecisionRule) -> DecisionRule:
    """The rule of photographs, with thresholds of the reference's cases, each of which counts once.

    Cases of several types, which are no one's truth, are left out.
    """
    groups = calibration.groups if calibration.groups is not None else np.arange(len(calibration.labels))
    p = combine(calibration.probabilities, groups, combined_by)
    distinct, index = np.unique(groups, return_inverse=True)
    low, high = np.full(len(distinct), calibration.labels.max()), np.zeros(len(distinct), int)
    np.minimum.at(low, index, calibration.labels)
    np.maximum.at(high, index, calibration.labels)
    p, labels = p[low == high], low[low == high]
    set_threshold = None if asked.coverage is None else conformal.set_threshold(p, labels, asked.coverage)
    unsafe = asked.unsafe_rate
    return DecisionRule(
        coverage=asked.coverage,
        unsafe_rate=unsafe,
        set_threshold=set_threshold,
        ablation_threshold=None if unsafe is None else conformal.ablation_threshold(p, labels, unsafe),
    )
