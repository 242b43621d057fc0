"""Samples keep groups together, and their spread is that of the mean of the groups."""

import numpy as np
import pytest

from cervix_jax.inference.bootstrap import group_samples, mean_intervals


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = np.array([7, 3, 3, 9, 7, 7])
    for rows in group_samples(groups, 50):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[4] == counts[5]
        assert counts[1] == counts[2]
        assert counts[0] + counts[1] + counts[3] == 3


def test_the_spread_of_means_is_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=400)
    means = [values[rows].mean() for rows in group_samples(np.arange(400), 2000)]
    assert np.std(means) == pytest.approx(values.std() / 20, rel=0.05)
    twice = [np.repeat(values, 2)[rows].mean() for rows in group_samples(np.repeat(np.arange(400), 2), 2000)]
    np.testing.assert_allclose(twice, means)  # photographs that repeat others make nothing surer


def test_intervals_of_means_are_those_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(50, 2)), rng.integers(0, 30, 50)
    means = np.stack([values[rows].mean(axis=0) for rows in group_samples(groups, 200)])
    np.testing.assert_allclose(mean_intervals(values, groups, 200), np.percentile(means, [2.5, 97.5], axis=0).T)
