"""Guarantees from exchangeable photographs: sets that hold the true type, and a bound on the dangerous error.

Split conformal prediction (Vovk et al. 2005; Sadinle, Lei & Wasserman 2019 for these scores): if new photographs and
those of the reference are exchangeable, a set holds the true type with at least the probability asked for, on average
over references and photographs. It is no promise for one type, one hospital or one woman.

Where photographs come in groups (near-duplicates, the cases of women) groups are exchangeable, not photographs: each
group of the reference weighs one, spread evenly over its photographs (Lee, Barber & Willett 2023), and the promise is
for a photograph of a new group.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.labels import ABLATABLE

_ROUNDING = 1e-12  # a probability that equals the threshold is in the set, however it was rounded


def upper_quantile(scores: Float[np.ndarray, "n"], level: float, groups: Int[np.ndarray, "n"] | None = None) -> float:
    """The ceil((n + 1) level)-th smallest score: a new exchangeable one is at most that with probability >= level.

    Infinite if there are too few scores for the level. With groups, n is their number, and a score of a group of g
    counts 1 / g.
    """
    order, weights = np.argsort(scores, kind="stable"), group_weights(groups, len(scores))
    below = np.cumsum(weights[order])
    place = int(np.searchsorted(below, (weights.sum() + 1) * level - 1e-9))
    return float(scores[order[place]]) if place < len(scores) else math.inf


def group_weights(groups: Int[np.ndarray, "n"] | None, count: int) -> Float[np.ndarray, "n"]:
    """1 over the size of the group of each of `count` photographs; 1 without groups."""
    if groups is None:
        return np.ones(count)
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / sizes[index]


def set_threshold(
    reference: Float[np.ndarray, "m k"],
    labels: Int[np.ndarray, "m"],
    coverage: float,
    groups: Int[np.ndarray, "m"] | None = None,
) -> float:
    """The least probability of a type in a prediction set, 0 to 1; 0 if the reference is too small for the coverage.

    Args:
      reference: probabilities of photographs of known type that neither network nor temperature was fitted on.
      labels: their types, 0 to k - 1.
      coverage: probability that a set holds the true type, above 0 and below 1.
      groups: photographs of one group have the same number; each alone if not given.
    """
    return max(0.0, 1 - upper_quantile(1 - reference[np.arange(len(reference)), labels], coverage, groups))


def prediction_sets(probabilities: Float[np.ndarray, "n k"], threshold: float) -> Bool[np.ndarray, "n k"]:
    """Types in the set of each photograph: those at least as likely as a `set_threshold`, and always the likeliest."""
    sets = probabilities >= threshold - _ROUNDING
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def cv_plus_sets(
    by_fold: Float[np.ndarray, "f n k"],
    reference: Float[np.ndarray, "m k"],
    labels: Int[np.ndarray, "m"],
    folds: Int[np.ndarray, "m"],
    coverage: float,
    groups: Int[np.ndarray, "m"] | None = None,
) -> Bool[np.ndarray, "n k"]:
    """Types in the set of each photograph by cross-validation: CV+ (Barber et al. 2021; Romano et al. 2020, section 3).

    A photograph of the reference was judged by the runs of the fold that held it out; it is compared with what these
    same runs say of the new one. So nothing is assumed of the mean of all runs: the sets hold the true type with a
    probability of about `coverage` in practice; at least 2 coverage - 1 - sqrt(2 / m) is proven for m photographs
    without groups (Barber et al. 2021, theorem 4).

    Args:
      by_fold: probabilities of n photographs by the runs of each of f folds, in order.
      reference: out-of-fold probabilities of m photographs of known type.
      labels: their types, 0 to k - 1.
      folds: the fold of each.
      coverage: above 0 and below 1.
      groups: see `set_threshold`.
    """
    scores, weights = 1 - reference[np.arange(len(reference)), labels], group_weights(groups, len(reference))
    surer = np.zeros(by_fold.shape[1:])  # weight of the reference that is less strange than this type here
    for probabilities, fold in zip(by_fold, np.unique(folds), strict=True):
        rows = np.flatnonzero(folds == fold)
        rows = rows[np.argsort(scores[rows], kind="stable")]
        below = np.concatenate([[0.0], np.cumsum(weights[rows])])
        surer += below[np.searchsorted(scores[rows], 1 - probabilities - _ROUNDING, side="left")]
    sets = surer < coverage * (weights.sum() + 1) - 1e-9
    sets[np.arange(len(sets)), by_fold.mean(axis=0).argmax(axis=1)] = True
    return sets


def describe_sets(sets: Bool[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> dict[str, float | None]:
    """How good sets are.

    Returns:
      `coverage`: fraction that hold the true type; `mean_size`; `singletons`: fraction of sets of one type;
      `singleton_error`: fraction of these that are wrong, None if there are none.
    """
    covered = sets[np.arange(len(sets)), labels]
    single = sets.sum(axis=1) == 1
    return {
        "coverage": float(covered.mean()),
        "mean_size": float(sets.sum(axis=1).mean()),
        "singletons": float(single.mean()),
        "singleton_error": float((~covered[single]).mean()) if single.any() else None,
    }


def ablation_threshold(
    reference: Float[np.ndarray, "m k"],
    labels: Int[np.ndarray, "m"],
    unsafe_rate: float,
    groups: Int[np.ndarray, "m"] | None = None,
) -> float:
    """The probability that type 1 has to exceed, such that types 2 and 3 exceed it with probability <= `unsafe_rate`.

    Args:
      reference: probabilities, as for `set_threshold`.
      labels: their types.
      unsafe_rate: fraction of photographs of types 2 and 3 that may be called type 1.
      groups: see `set_threshold`.
    """
    others = labels != ABLATABLE
    return upper_quantile(reference[others, ABLATABLE], 1 - unsafe_rate, None if groups is None else groups[others])


def decide(probabilities: Float[np.ndarray, "n k"], threshold: float | None = None) -> Int[np.ndarray, "n"]:
    """The type of each photograph: the likeliest, or by an `ablation_threshold`.

    With one, a photograph is called type 1 if and only if its probability exceeds the threshold, otherwise the
    likelier of the other types.
    """
    if threshold is None:
        return probabilities.argmax(axis=1)
    others = probabilities.copy()
    others[:, ABLATABLE] = -1
    return np.where(probabilities[:, ABLATABLE] > threshold, ABLATABLE, others.argmax(axis=1))


def repeated_splits(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    coverage: float,
    groups: Int[np.ndarray, "n"] | None = None,
    *,
    repeats: int = 200,
) -> dict[str, float | None]:
    """Means of `describe_sets` over random halves of the groups: one is the reference, the other is measured.

    Args:
      probabilities: of photographs of known type.
      labels: their types.
      coverage: see `set_threshold`.
      groups: see `set_threshold`; at least two.
      repeats: how often they are halved.
    """
    names, group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    rng, rows = np.random.default_rng(0), []
    for _ in range(repeats):
        reference = (rng.permutation(len(names)) < len(names) // 2)[group]
        threshold = set_threshold(probabilities[reference], labels[reference], coverage, group[reference])
        rows.append(describe_sets(prediction_sets(probabilities[~reference], threshold), labels[~reference]))
    defined = {name: [x for row in rows if (x := row[name]) is not None] for name in rows[0]}
    return {name: float(np.mean(values)) if values else None for name, values in defined.items()}
