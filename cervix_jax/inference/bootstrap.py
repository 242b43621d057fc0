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


def reflected(value: float, low: float, high: float) -> tuple[float, float]:
    """The interval of a calibration error from percentiles of its samples: these reflected at the number.

    The error is biased upwards, and in samples twice, so the percentiles may lie above it. The reflected ones (the
    'basic' bootstrap) are cut off at 0, and hold the number.
    """
    return max(0.0, 2 * value - high), max(value, 2 * value - low)


def mean_intervals(
    values: Float[np.ndarray, "n m"], groups: Int[np.ndarray, "n"], resamples: int = 1000
) -> Float[np.ndarray, "m 2"]:
    """95 % intervals of the means of m values over photographs, from the samples of `group_samples`.

    A mean over a sample needs only the sums of its groups, so this takes milliseconds where a metric of probabilities
    takes seconds.

    Args:
      values: of n photographs, such as the difference of two systems' losses.
      groups: see `group_samples`.
      resamples: number of samples.
    """
    rng = np.random.default_rng(0)
    _, group_index = np.unique(groups, return_inverse=True)
    size = np.bincount(group_index)
    sums = np.stack([np.bincount(group_index, column, len(size)) for column in values.T], axis=1)
    drawn = np.stack(
        [np.bincount(rng.integers(0, len(size), len(size)), minlength=len(size)) for _ in range(resamples)]
    )
    means = (drawn @ sums) / (drawn @ size)[:, None]
    return np.percentile(means, PERCENTILES, axis=0).T
