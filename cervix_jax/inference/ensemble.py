"""Several runs as one: means of their probabilities, and three one-vs-rest runs as one distribution."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

REPORT_BASE = 0.95  # report section 12


def report_weights(losses: Sequence[float]) -> Float[np.ndarray, "m"] | None:
    """Weights proportional to 0.95 - validation loss, never negative (report section 12).

    Args:
      losses: of each run's checkpoint, in nats.

    Returns:
      Weights that sum to one; None if every run's loss is 0.95 or worse, so that the rule gives none.
    """
    weights = np.maximum(REPORT_BASE - np.asarray(losses, float), 0)
    return weights / weights.sum() if weights.sum() > 0 else None


def mean(
    probabilities: Float[np.ndarray, "m n k"], weights: Float[np.ndarray, "m"], *, geometric: bool = False
) -> Float[np.ndarray, "n k"]:
    """Weighted mean over runs; the geometric one is scaled so that rows sum to one.

    Args:
      probabilities: of m runs.
      weights: that sum to one.
      geometric: mean of logarithms instead, in which a run that is sure of what a type is not outvotes others.
    """
    if not geometric:
        return np.tensordot(weights, probabilities, axes=1)
    logarithm = np.tensordot(weights, np.log(np.maximum(probabilities, np.finfo(float).tiny)), axes=1)
    powers = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def normalize_one_vs_rest(own: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Probabilities of 'this type, not the rest' from one model a type, as one distribution (report section 15).

    Each is divided by their sum; where that vanishes, since every model says 'rest', all types are equally likely.
    """
    total = own.sum(axis=1, keepdims=True)
    return np.where(total > 0, own / np.where(total > 0, total, 1), 1 / own.shape[1])
