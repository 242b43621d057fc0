"""What matters about predictions of the transformation zone, each with an interval (beside `training/metrics.py`).

Only a fully visible zone of type 1 may be ablated (WHO 2021), so the dangerous error is to call a type 2 or 3 'type 1'.
Intervals are percentiles of 1,000 bootstrap samples of the photographs (Efron 1979); they say how far another sample of
photographs of the same kind would be, not another hospital. Near-duplicates are drawn together. A proportion of 0 or 1
has no spread in such samples: its interval is the exact one (Clopper & Pearson 1934), of as many trials as there are
groups, so that 'never in 20' does not look like 'never'. That of the calibration error is `bootstrap.reflected`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest, rankdata

from cervix_jax.inference.bootstrap import PERCENTILES, group_samples, reflected
from cervix_jax.labels import ABLATABLE, CLASS_NAMES
from cervix_jax.training import metrics

RESAMPLES = 1000


def detailed_metrics(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    class_names: Sequence[str],
    groups: Int[np.ndarray, "n"] | None = None,
) -> dict[str, Any]:
    """`classification_metrics`, `scalar_metrics`, and their 95 % intervals, ready for JSON.

    Args:
      probabilities: rows sum to one.
      labels: 0 to k - 1.
      class_names: k names.
      groups: photographs of one group are drawn together; each alone if not given.

    Returns:
      Also `reliability`: bins of the calibration error; `risk_coverage`: error rate among the photographs that the
      network is surest of; `intervals`: [low, high] of each number, None where no sample defines it.
    """
    decisions = probabilities.argmax(axis=1)
    point = scalar_metrics(probabilities, labels, class_names, decisions)
    samples = []
    for rows in group_samples(np.arange(len(labels)) if groups is None else groups, RESAMPLES):
        samples.append(list(scalar_metrics(probabilities[rows], labels[rows], class_names, decisions[rows]).values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a number that no sample defines
        low, high = np.nanpercentile(np.array(samples, float), PERCENTILES, axis=0)
    limits = {name: (low[i], high[i]) for i, name in enumerate(point)}
    limits["ece"] = reflected(point["ece"], *limits["ece"])
    intervals = {name: [none_if_nan(a), none_if_nan(b)] for name, (a, b) in limits.items()}
    for name, (among, counted) in _fractions(labels, decisions, class_names).items():
        if among.any() and len(set(counted[among].tolist())) == 1:
            trials = int(among.sum()) if groups is None else len(np.unique(groups[among]))
            exact = binomtest(trials if counted[among][0] else 0, trials).proportion_ci(0.95, "exact")
            intervals[name] = list(map(float, exact))
    classification = metrics.classification_metrics(probabilities, labels, class_names)
    return {
        **classification,
        **{name: none_if_nan(value) for name, value in point.items() if name not in classification},
        "intervals": intervals,
        "reliability": metrics.reliability(probabilities, labels),
        "risk_coverage": risk_coverage(probabilities, labels),
    }


def scalar_metrics(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    class_names: Sequence[str],
    decisions: Int[np.ndarray, "n"],
) -> dict[str, float]:
    """Every metric that is one number; NaN where the photographs do not define it.

    `loss`, `accuracy`, `brier`, `ece`; `kappa`: Cohen's; `auroc`: mean over types of one against the rest; `aurc`: area
    under the risk-coverage curve (Geifman & El-Yaniv 2017); `sensitivity/TYPE`; and, for the three types,
    `unsafe_rate`: fraction of types 2 and 3 that are called type 1; `1_called_3` and `3_called_1`: fractions of the
    true type.

    Args:
      probabilities: rows sum to one.
      labels: 0 to k - 1.
      class_names: k names.
      decisions: the type that each photograph is called, 0 to k - 1.
    """
    k = len(class_names)
    confusion = np.bincount(labels * k + decisions, minlength=k * k).reshape(k, k)
    true, called, n = confusion.sum(axis=1), confusion.sum(axis=0), len(labels)
    chance = float(true @ called) / n**2
    return {
        "loss": metrics.cross_entropy(probabilities, labels),
        "brier": metrics.brier_score(probabilities, labels),
        "ece": metrics.expected_calibration_error(probabilities, labels),
        "kappa": _ratio(np.trace(confusion) / n - chance, 1 - chance),
        "auroc": float(np.mean([auroc(probabilities[:, i], labels == i) for i in range(k)])),
        "aurc": float(np.mean(_risks(probabilities, labels))),
        **{name: _ratio(*counts) for name, counts in proportions(labels, decisions, class_names).items()},
    }


def proportions(
    labels: Int[np.ndarray, "n"], decisions: Int[np.ndarray, "n"], class_names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Those of `scalar_metrics` that are fractions of photographs: (count, total)."""
    fractions = _fractions(labels, decisions, class_names)
    return {name: (int((among & counted).sum()), int(among.sum())) for name, (among, counted) in fractions.items()}


def _fractions(
    labels: Int[np.ndarray, "n"], decisions: Int[np.ndarray, "n"], class_names: Sequence[str]
) -> dict[str, tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]]:
    """For each of `proportions`, among which photographs, and which are counted."""
    fractions = {"accuracy": (np.ones(len(labels), bool), labels == decisions)}
    fractions |= {f"sensitivity/{name}": (labels == i, decisions == i) for i, name in enumerate(class_names)}
    if tuple(class_names) == CLASS_NAMES:
        fractions["unsafe_rate"] = (labels != ABLATABLE, decisions == ABLATABLE)
        fractions["1_called_3"] = (labels == 0, decisions == 2)
        fractions["3_called_1"] = (labels == 2, decisions == 0)
    return fractions


def auroc(scores: Float[np.ndarray, "n"], positive: Any) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN without either (Hanley 1982)."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def risk_coverage(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> list[dict[str, float]]:
    """`risk`, the fraction of errors, among the `coverage`, 10 % to 100 %, of photographs of highest confidence."""
    risks, n = _risks(probabilities, labels), len(labels)
    counts = {max(1, round(n * tenth / 10)) for tenth in range(1, 11)}
    return [{"coverage": count / n, "risk": float(risks[count - 1])} for count in sorted(counts)]


def _risks(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Fraction of errors among the first, the first two, ... in order of confidence."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = (probabilities.argmax(axis=1) != labels)[order]
    return np.cumsum(wrong) / np.arange(1, len(labels) + 1)


def _ratio(count: Any, total: Any) -> float:
    return float(count) / float(total) if total else float("nan")


def none_if_nan(number: float) -> float | None:
    """The number, None for NaN, which JSON does not know."""
    return None if np.isnan(number) else float(number)
