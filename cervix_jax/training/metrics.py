"""Exact metrics of probabilities and labels, in float64 on the host (report section 4.2)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

NUM_BINS = 15  # of the expected calibration error (Guo et al. 2017)


def classification_metrics(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], class_names: Sequence[str]
) -> dict[str, Any]:
    """All metrics as plain numbers, ready for JSON.

    Args:
      probabilities: rows sum to one.
      labels: 0 to k - 1.
      class_names: k names.

    Returns:
      `loss`: categorical cross-entropy in nats; `accuracy`; `num_examples`; `confusion_matrix`: rows true, columns
      predicted; `per_class`: precision and recall (None where undefined) and support; `ece`: expected calibration error
      over 15 bins of confidence; `brier`: mean squared distance from the one-hot label, 0 to 2.

    Raises:
      ValueError: there are no examples, or unlabelled ones.
    """
    if len(labels) == 0 or labels.min() < 0:
        raise ValueError("metrics need labelled examples; this split has none" if len(labels) else "no examples")
    n = len(labels)
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(probabilities, labels)
    return {
        "loss": cross_entropy(probabilities, labels),
        "accuracy": float((predicted == labels).mean()),
        "num_examples": n,
        "confusion_matrix": confusion.tolist(),
        "per_class": {
            name: {
                "precision": _ratio(confusion[i, i], confusion[:, i].sum()),
                "recall": _ratio(confusion[i, i], confusion[i].sum()),
                "support": int(confusion[i].sum()),
            }
            for i, name in enumerate(class_names)
        },
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
    }


def cross_entropy(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    """Mean of -log of the probability of the true class, in nats; Kaggle clips at 1e-15."""
    true_class = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(true_class, 1e-15, 1)).mean())


def brier_score(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
    """Mean squared distance from the one-hot label, 0 to 2."""
    return float(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1).mean())


def confusion_matrix(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Int[np.ndarray, "k k"]:
    """Counts; rows true, columns predicted."""
    k = probabilities.shape[1]
    return np.bincount(labels * k + probabilities.argmax(axis=1), minlength=k * k).reshape(k, k)


def expected_calibration_error(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], num_bins: int = NUM_BINS
) -> float:
    """Mean over examples of |accuracy - confidence| of the bin of their confidence (Guo et al. 2017, equation 3)."""
    bins = reliability(probabilities, labels, num_bins)
    gaps = [row["count"] * abs(row["accuracy"] - row["confidence"]) for row in bins]
    return float(sum(gaps) / len(labels))


def reliability(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], num_bins: int = NUM_BINS
) -> list[dict[str, float | int]]:
    """`count`, mean `confidence` and `accuracy` of the examples in each bin of confidence that is not empty."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    # Bins are (i/m, (i+1)/m], as in the paper.
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts, confidences, hits = (np.bincount(bins, x, minlength=num_bins) for x in (None, confidence, correct))
    return [
        {"count": int(n), "confidence": float(confidences[i] / n), "accuracy": float(hits[i] / n)}
        for i, n in enumerate(counts)
        if n
    ]


def _ratio(numerator: np.integer, denominator: np.integer) -> float | None:
    return int(numerator) / int(denominator) if denominator else None
