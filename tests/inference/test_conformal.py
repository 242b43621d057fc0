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
