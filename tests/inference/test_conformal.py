"""Prediction sets and thresholds: crepes as the oracle, coverage over many splits, and sets that are never empty."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from crepes import ConformalClassifier
from crepes.extras import hinge
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from cervix_jax.inference import conformal


def drawn(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 1.5, (count, 3)), axis=1)
    return p, (p.cumsum(axis=1) < rng.uniform(size=(count, 1))).sum(axis=1)


def sets_by_reference(p, coverage, reference, labels):
    return conformal.prediction_sets(p, conformal.set_threshold(reference, labels, coverage))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_sets_are_those_of_crepes(coverage) -> None:
    (reference, labels), (p, _) = drawn(150), drawn(200, seed=1)
    oracle = ConformalClassifier().fit(hinge(reference, np.arange(3), labels))
    expected = oracle.predict_set(hinge(p), confidence=coverage, smoothing=False).astype(bool)
    expected[np.arange(len(p)), p.argmax(axis=1)] = True  # crepes' may be empty
    np.testing.assert_array_equal(sets_by_reference(p, coverage, reference, labels), expected)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_holds_over_repeated_splits(coverage) -> None:
    p, labels = drawn(300)
    p = softmax(3 * np.log(p), axis=1)  # far too sure of itself; the sets hold all the same
    found = conformal.repeated_splits(p, labels, coverage, repeats=100)
    assert coverage - 0.01 < found["coverage"] < coverage + 0.03
    assert 1 <= found["mean_size"] <= 3
    assert found["singleton_error"] is not None
    alone = np.mean(p.argmax(axis=1) != labels)
    assert found["singleton_error"] < alone


def test_photographs_of_one_group_count_once_and_are_never_on_both_sides() -> None:
    p, labels = drawn(60)
    each = conformal.repeated_splits(p, labels, 0.8, repeats=20)
    many, groups = np.repeat(p, 3, axis=0), np.repeat(np.arange(60), 3)
    tripled = conformal.repeated_splits(many, np.repeat(labels, 3), 0.8, groups, repeats=20)
    assert tripled == pytest.approx(each)
    assert conformal.repeated_splits(many, np.repeat(labels, 3), 0.8, repeats=20) != pytest.approx(each)


@given(
    hnp.arrays(float, (4, 3), elements=st.floats(0.01, 1)).map(lambda x: x / x.sum(1, keepdims=True)),
    st.floats(0.01, 0.99),
    st.floats(0.0, 0.99),
)
def test_sets_are_never_empty_and_grow_with_coverage(p, coverage, further) -> None:
    reference, labels = drawn(25)
    sets = sets_by_reference(p, coverage, reference, labels)
    assert sets[np.arange(4), p.argmax(axis=1)].all()
    more = sets_by_reference(p, coverage + further * (1 - coverage), reference, labels)
    assert (more >= sets).all()


def test_too_few_references_for_a_coverage_give_every_type() -> None:
    reference, labels = drawn(8)
    p, _ = drawn(5, seed=1)
    assert sets_by_reference(p, 0.9, reference, labels).all()
    assert conformal.upper_quantile(np.arange(9.0), 0.9) == 8
    assert conformal.upper_quantile(np.arange(9.0), 0.91) == np.inf


def test_sets_are_described() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    assert conformal.describe_sets(sets, np.array([0, 1, 1, 2])) == {
        "coverage": 0.75,
        "mean_size": 1.75,
        "singletons": 0.5,
        "singleton_error": 0.5,
    }
    assert conformal.describe_sets(np.ones((2, 3), bool), np.array([0, 1]))["singleton_error"] is None


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_the_dangerous_error_is_bounded_over_repeated_splits(rate) -> None:
    p, labels = drawn(300)
    rng, rates = np.random.default_rng(0), []
    for _ in range(300):
        order = rng.permutation(300)
        reference, measured = order[:150], order[150:]
        threshold = conformal.ablation_threshold(p[reference], labels[reference], rate)
        types = conformal.decide(p[measured], threshold)
        rates.append(np.mean(types[labels[measured] != 0] == 0))
    assert rate - 0.03 < np.mean(rates) <= rate + 0.003


def test_decisions() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.2, 0.2, 0.6]])
    np.testing.assert_array_equal(conformal.decide(p), [0, 1, 2])
    np.testing.assert_array_equal(conformal.decide(p, 0.25), [0, 0, 2])
    np.testing.assert_array_equal(conformal.decide(p, 0.5), [1, 1, 2])  # it has to be exceeded
    np.testing.assert_array_equal(conformal.decide(p, np.inf), [1, 1, 2])


@given(st.integers(2, 4), st.floats(0.05, 0.95), st.integers(0, 9))
def test_cv_plus_is_what_its_definition_counts(num_folds, coverage, seed) -> None:
    """Romano et al. 2020, equation 9, written out."""
    reference, labels = drawn(40, seed)
    folds = np.arange(40) % num_folds
    by_fold = np.stack([drawn(15, 100 + seed + fold)[0] for fold in range(num_folds)])
    sets = conformal.cv_plus_sets(by_fold, reference, labels, folds, coverage)
    for i in range(15):
        for y in range(3):
            below = sum(1 - reference[j, labels[j]] < 1 - by_fold[folds[j], i, y] for j in range(40))
            likeliest = by_fold.mean(axis=0)[i].argmax() == y
            assert sets[i, y] == (below < coverage * 41 or likeliest)


def test_where_all_folds_say_the_same_cv_plus_is_the_threshold_s_set() -> None:
    (reference, labels), (p, _) = drawn(150), drawn(100, seed=1)
    sets = conformal.cv_plus_sets(np.stack([p] * 5), reference, labels, np.arange(150) % 5, 0.9)
    np.testing.assert_array_equal(sets, sets_by_reference(p, 0.9, reference, labels))


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_of_cv_plus_hold_the_true_type_though_runs_are_far_too_sure(coverage) -> None:
    """Runs of folds as noisy views of the truth; what the mean of all says plays no part."""
    rng = np.random.default_rng(0)
    p, labels = drawn(2000)
    views = [softmax(3 * np.log(p) + rng.normal(0, 1, p.shape), axis=1) for _ in range(5)]
    known, new = np.arange(2000) < 1000, np.arange(2000) >= 1000
    folds = np.arange(1000) % 5
    reference = np.stack([view[known] for view in views])[folds, np.arange(1000)]
    sets = conformal.cv_plus_sets(np.stack([v[new] for v in views]), reference, labels[known], folds, coverage)
    assert coverage - 0.02 < conformal.describe_sets(sets, labels[new])["coverage"]


def test_a_probability_that_equals_the_threshold_is_in_the_set() -> None:
    threshold = 0.1 + 0.2  # 4e-17 above 0.3
    assert conformal.prediction_sets(np.array([[0.6, 0.3, 0.1]]), threshold).tolist() == [[True, True, False]]
    reference, folds = np.array([[0.3, 0.7, 0.0]] * 2), np.array([0, 1])
    by_fold = np.array([[[0.7 - 1e-16, 0.3 - 1e-16, 0.0]]] * 2)
    sets = conformal.cv_plus_sets(by_fold, reference, np.array([0, 0]), folds, 0.5)
    assert sets.tolist() == [[True, True, False]]


def test_each_group_weighs_one_however_many_photographs_it_has() -> None:
    weights = conformal.group_weights(np.array([5, 5, 7, 5]), 4)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1, 1 / 3])
    np.testing.assert_array_equal(conformal.group_weights(None, 2), [1, 1])
