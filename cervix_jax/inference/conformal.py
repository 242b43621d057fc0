"""Guarantees from exchangeable photographs: sets that hold the true type, and a bound on the dangerous error.

Split conformal prediction (Vovk et al. 2005; Sadinle, Lei & Wasserman 2019 for these scores): if new photographs and
those of the reference are exchangeable, a set holds the true type with at least the probability asked for, on average
over references and photographs. It is no promise for one type, one hospital or one woman.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.labels import ABLATABLE


def upper_quantile(scores: Float[np.ndarray, "n"], level: float) -> float:
    """The ceil((n + 1) level)-th smallest score: a new exchangeable one is at most that with probability >= level.

    Infinite if there are too few scores for the level.
    """
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def prediction_sets(
    probabilities: Float[np.ndarray, "n k"],
    coverage: float,
    reference: Float[np.ndarray, "m k"],
    reference_labels: Int[np.ndarray, "m"],
) -> Bool[np.ndarray, "n k"]:
    """Types that are in the set of each photograph: those likely enough, and always the likeliest.

    Args:
      probabilities: of the photographs.
      coverage: probability that a set holds the true type, above 0 and below 1.
      reference: probabilities of photographs of known type that the network and its temperature were not fitted on.
      reference_labels: their types.
    """
    scores = 1 - reference[np.arange(len(reference)), reference_labels]
    sets = 1 - probabilities <= upper_quantile(scores, coverage) + 1e-12
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def describe_sets(sets: Bool[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> dict[str, float | None]:
    """How good sets are: share that hold the true type, mean size, share of sets of one type, and how many err."""
    held = sets[np.arange(len(sets)), labels]
    single = sets.sum(axis=1) == 1
    return {
        "coverage": float(held.mean()),
        "mean_size": float(sets.sum(axis=1).mean()),
        "singletons": float(single.mean()),
        "singleton_error": float((~held[single]).mean()) if single.any() else None,
    }


def ablation_threshold(reference: Float[np.ndarray, "m k"], labels: Int[np.ndarray, "m"], unsafe_rate: float) -> float:
    """The probability that type 1 has to exceed, such that types 2 and 3 exceed it with probability <= `unsafe_rate`.

    Args:
      reference: probabilities, as for `prediction_sets`.
      labels: their types.
      unsafe_rate: of photographs of type 2 and 3, that may be called type 1.
    """
    return upper_quantile(reference[labels != ABLATABLE, ABLATABLE], 1 - unsafe_rate)


def decide(probabilities: Float[np.ndarray, "n k"], threshold: float | None = None) -> Int[np.ndarray, "n"]:
    """The type of each photograph: the likeliest, or by a threshold of `ablation_threshold`.

    With one, a photograph is called type 1 if and only if its probability exceeds the threshold, otherwise the
    likelier of the other types.
    """
    if threshold is None:
        return probabilities.argmax(axis=1)
    others = probabilities.copy()
    others[:, ABLATABLE] = -1
    return np.where(probabilities[:, ABLATABLE] > threshold, ABLATABLE, others.argmax(axis=1))


def repeated_splits(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], coverage: float, *, repeats: int = 200
) -> dict[str, Any]:
    """Means of `describe_sets` over random halves: one is the reference, the other is measured."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(repeats):
        order = rng.permutation(len(labels))
        reference, measured = order[: len(order) // 2], order[len(order) // 2 :]
        sets = prediction_sets(probabilities[measured], coverage, probabilities[reference], labels[reference])
        rows.append(describe_sets(sets, labels[measured]))
    defined = {name: [x for row in rows if (x := row[name]) is not None] for name in rows[0]}
    return {name: float(np.mean(values)) if values else None for name, values in defined.items()}
