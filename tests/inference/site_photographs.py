"""Predictions at a site whose camera makes a network overconfident, and whose cases have several photographs."""

import numpy as np
from scipy.special import softmax

K = 3


def site_predictions(cases: int, seed: int = 0, *, size: int = 3, knows: float = 1.0):
    """Overconfident probabilities, labels, names and cases of photographs; `knows` 0 for a network that only guesses.

    The photographs of a case have one label and much of their logits in common.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(cases), size)
    shared = rng.normal(0, 2, (cases, K))
    labels = (softmax(shared, axis=1).cumsum(axis=1) < rng.uniform(size=(cases, 1))).sum(axis=1)
    logits = (
        knows * shared[groups] + rng.normal(0, 0.5, (len(groups), K)) + (1 - knows) * rng.normal(0, 2, (len(groups), K))
    )
    ids = [f"Type_{labels[group] + 1}/{group}_{i}.jpg" for i, group in enumerate(groups)]
    return softmax(3 * logits + [0, 6, 0], axis=1), labels[groups], ids, groups
