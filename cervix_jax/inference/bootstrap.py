"""Bootstrap over photographs: samples with replacement, near-duplicates together (the cluster bootstrap)."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

PERCENTILES = (2.5, 97.5)  # of a 95 % interval


def group_samples(groups: Int[np.ndarray, "n"], resamples: int) -> Iterator[Int[np.ndarray, "_"]]:
    """Rows of samples, each of as many groups as there are; the same samples every time.

    Args:
      groups: rows of one group are drawn together.
      resamples: number of samples.
    """
    rng = np.random.default_rng(0)
    _, group_index = np.unique(groups, return_inverse=True)
    rows_by_group = np.split(np.argsort(group_index, kind="stable"), np.cumsum(np.bincount(group_index))[:-1])
    for _ in range(resamples):
        drawn = rng.integers(0, len(rows_by_group), len(rows_by_group))
        yield np.concatenate([rows_by_group[group] for group in drawn])


def mean_interval(
    values: Float[np.ndarray, "n"], groups: Int[np.ndarray, "n"], resamples: int = 1000
) -> tuple[float, float]:
    """The 95 % interval of the mean of photographs' values, groups drawn together."""
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(counts), (resamples, len(counts)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), PERCENTILES)
    return float(low), float(high)
