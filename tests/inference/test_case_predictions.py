"""Photographs of a case combined: by hand, and the rule that a constructed difference tells."""

import numpy as np
import pytest

from cervix_jax.inference.case_predictions import best_rule, combine


def test_means_are_over_the_photographs_of_a_case() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.1, 0.6, 0.3]])
    groups = np.array([7, 7, 2])
    np.testing.assert_allclose(combine(p, groups, "mean"), [p[2], [0.5, 0.25, 0.25]])
    geometric = np.sqrt(p[0] * p[1])
    np.testing.assert_allclose(combine(p, groups, "geometric"), [p[2], geometric / geometric.sum()])


def test_the_rule_of_least_loss_is_chosen() -> None:
    """One photograph of each case rules the truth out: the geometric mean believes it, the mean does not."""
    labels, groups = np.repeat(np.arange(30) % 3, 2), np.repeat(np.arange(30), 2)
    right, wrong = 0.05 + 0.85 * np.eye(3)[labels], np.full((60, 3), 0.4995)
    wrong[np.arange(60), labels] = 0.001
    p = np.where((np.arange(60) % 2 == 0)[:, None], right, wrong)
    chosen = best_rule(p, labels, groups)
    assert (chosen["rule"], chosen["cases"]) == ("mean", 30)
    assert chosen["losses"]["mean"] == pytest.approx(-np.log((0.9 + 0.001) / 2))
    independent = np.random.default_rng(0).dirichlet(np.ones(3), 60) * 0.2 + right * 0.8
    assert best_rule(independent, labels, groups)["rule"] == "geometric"


@pytest.mark.parametrize("seed", range(20))
def test_single_photographs_choose_no_rule(seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.ones(3), 40)
    assert best_rule(p, np.arange(40) % 3, np.arange(40))["rule"] == "mean"


def test_cases_of_several_types_say_nothing() -> None:
    p = np.full((4, 3), 1 / 3)
    assert best_rule(p, np.array([0, 1, 2, 0]), np.array([0, 0, 1, 1])) == {"rule": "mean", "losses": None, "cases": 0}
