"""One distribution for a case from those of its photographs."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from cervix_jax.training.metrics import cross_entropy

RULES = ("mean", "geometric")  # of probabilities; the first where nothing tells which is better


def combine(
    probabilities: Float[np.ndarray, "n k"], groups: Int[np.ndarray, "n"], rule: str
) -> Float[np.ndarray, "m k"]:
    """The mean or the scaled geometric mean over the photographs of each case, in the order of their numbers.

    Args:
      probabilities: of n photographs.
      groups: photographs of a case have the same number.
      rule: one of RULES.
    """
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    tiny = np.finfo(float).tiny
    values = np.log(np.maximum(probabilities, tiny)) if rule == "geometric" else probabilities
    sums = np.zeros((len(sizes), probabilities.shape[1]))
    np.add.at(sums, index, values)
    means = sums / sizes[:, None]
    return softmax(means, axis=1) if rule == "geometric" else means


def best_rule(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"]
) -> dict[str, Any]:
    """The rule of least loss over cases, whose probabilities must be of photographs that nothing was fitted to.

    Returns:
      `rule`; `losses` of cases by rule; `cases`: how many of these have several photographs, which tell. Those of
      several types are left out.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for group, label in zip(groups.tolist(), labels.tolist(), strict=True):
        first[group], last[group] = min(label, first.get(group, label)), max(label, last.get(group, label))
    rows = np.array([first[group] == last[group] for group in groups.tolist()], bool)
    truth = np.array([first[group] for group in np.unique(groups[rows]).tolist()], int)
    if not len(truth):
        return {"rule": RULES[0], "losses": None, "cases": 0}
    losses = {rule: cross_entropy(combine(probabilities[rows], groups[rows], rule), truth) for rule in RULES}
    several = int((np.unique(groups[rows], return_counts=True)[1] > 1).sum())
    rule = min(RULES, key=lambda rule: losses[rule]) if several else RULES[0]  # else only rounding would choose
    return {"rule": rule, "losses": losses, "cases": several}
