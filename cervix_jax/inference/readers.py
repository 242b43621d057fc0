"""Labels by several readers: how far they agree, and how far a network agrees with each and with most of them.

No network can agree better with the truth than its readers do with each other: its kappa is to be read beside theirs.
"""

import collections
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.datasets.reader_labels import Readings, count_readers
from cervix_jax.inference.clinical_metrics import none_if_nan, scalar_metrics


def describe_readers(
    readings: Readings, probabilities: Float[np.ndarray, "n k"], names: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """Agreement of readers, and of predictions with them.

    Args:
      readings: see `reader_labels.read_labels`.
      probabilities: of n photographs.
      names: of these.
      class_names: k types.

    Returns:
      `fleiss_kappa`: of photographs with the most frequent number of readers, and `photographs`, how many these are;
      `pairs`: by 'A, B', `kappa` and `photographs` that both have read; `predictions`: against each reader, and against
      the `majority` (without ties), `photographs`, `accuracy`, `kappa` and `loss`.
    """
    counts = count_readers(readings, names, len(class_names))
    sizes = collections.Counter(counts.sum(axis=1).tolist())
    size = max((n for n in sizes if n > 1), key=lambda n: (sizes[n], n), default=0)
    complete = counts[counts.sum(axis=1) == size] if size else counts[:0]
    place = {name: i for i, name in enumerate(names)}
    pairs = {}
    for a, b in itertools.combinations(sorted(readings), 2):
        common = [name for name in readings[a] if name in readings[b]]
        first, second = (np.array([readings[who][name] for name in common], int) for who in (a, b))
        kappa = cohen_kappa(first, second, len(class_names))
        pairs[f"{a}, {b}"] = {"kappa": none_if_nan(kappa), "photographs": len(common)}
    predictions = {}
    for who in sorted(readings):
        rows = [place[name] for name in readings[who]]
        labels = np.array(list(readings[who].values()), int)
        predictions[who] = _agreement(probabilities[rows], labels, class_names)
    best = np.sort(counts, axis=1)
    decided = np.flatnonzero(best[:, -1] > best[:, -2])
    majority = _agreement(probabilities[decided], counts[decided].argmax(axis=1), class_names)
    return {
        "fleiss_kappa": none_if_nan(fleiss_kappa(complete)),
        "photographs": len(complete),
        "pairs": pairs,
        "predictions": predictions | {"majority": majority},
    }


def fleiss_kappa(counts: Int[np.ndarray, "n k"]) -> float:
    """Agreement beyond chance of as many readers for each photograph (Fleiss 1971); NaN where it is undefined.

    Args:
      counts: readers who chose each type, by photograph; rows have the same sum, at least 2.
    """
    if not len(counts):
        return float("nan")
    readers = int(counts[0].sum())
    observed = float(((counts**2).sum(axis=1) - readers).mean()) / (readers * (readers - 1))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return (observed - chance) / (1 - chance) if chance < 1 else float("nan")


def cohen_kappa(first: Int[np.ndarray, "n"], second: Int[np.ndarray, "n"], k: int) -> float:
    """Agreement beyond chance of two readers (Cohen 1960); NaN where it is undefined."""
    if not len(first):
        return float("nan")
    shares = [np.bincount(labels, minlength=k) / len(labels) for labels in (first, second)]
    chance = float(shares[0] @ shares[1])
    return (float((first == second).mean()) - chance) / (1 - chance) if chance < 1 else float("nan")


def _agreement(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], class_names: Sequence[str]
) -> dict[str, Any]:
    if not len(labels):
        return {"photographs": 0}
    scalars = scalar_metrics(probabilities, labels, class_names, probabilities.argmax(axis=1))
    shown = {name: none_if_nan(scalars[name]) for name in ("accuracy", "kappa", "loss")}
    return {"photographs": len(labels)} | shown
