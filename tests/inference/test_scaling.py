"""Scalings: known ones found again, SciPy's general optimiser and scikit-learn's regression as oracles."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from cervix_jax.inference import scaling
from cervix_jax.training.metrics import cross_entropy


def drawn(slopes, biases, count: int, seed: int = 0):
    """Probabilities, and labels drawn from them as a scaling changes them."""
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 2, (count, 3)), axis=1)
    q = scaling.Scaling(slopes, biases).apply(p)
    return p, (q.cumsum(axis=1) < rng.uniform(size=(count, 1))).sum(axis=1)


def test_a_known_scaling_is_found_again() -> None:
    true = scaling.Scaling((0.5, 1.0, 1.5), (0.6, -0.4, -0.2))
    found = scaling.fit_vector_scaling(*drawn(true.slopes, true.biases, 40_000))
    np.testing.assert_allclose(found.slopes, true.slopes, atol=0.05)
    np.testing.assert_allclose(found.biases, true.biases, atol=0.06)


def test_with_one_slope_it_is_a_temperature_and_no_neighbour_is_better() -> None:
    p, labels = drawn((0.5,) * 3, (0.0,) * 3, 300)
    one = scaling.fit_temperature_scaling(p, labels)
    assert len(set(one.slopes)) == 1
    assert one.biases == (0.0,) * 3
    vector = scaling.fit_vector_scaling(p, labels)
    assert sum(vector.biases) == pytest.approx(0)
    least = cross_entropy(vector.apply(p), labels)
    assert least < cross_entropy(one.apply(p), labels)
    for i in range(3):
        for step in (-0.05, 0.05):
            moved = np.array([vector.slopes, vector.biases])
            moved[:, i] += step
            assert cross_entropy(scaling.Scaling(*map(tuple, moved)).apply(p), labels) > least


def test_of_two_types_it_is_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    p = softmax(rng.normal(0, 1, (400, 2)), axis=1)
    labels = (rng.uniform(size=400) < softmax(2 * np.log(p) + [0, 0.5], axis=1)[:, 1]).astype(int)
    features = np.stack([-np.log(p[:, 0]), np.log(p[:, 1])], axis=1)
    oracle = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(features, labels)
    found = scaling.fit_vector_scaling(p, labels)
    np.testing.assert_allclose(found.apply(p), oracle.predict_proba(features), atol=2e-3)


def test_host_and_device_agree_and_the_identity_changes_nothing() -> None:
    p, _ = drawn((1.0,) * 3, (0.0,) * 3, 20)
    given = scaling.Scaling((0.5, 1.0, 2.0), (0.1, 0.0, -0.1))
    np.testing.assert_allclose(given.apply(jnp.asarray(p, jnp.float32)), given.apply(p), atol=1e-6)
    np.testing.assert_allclose(scaling.Scaling.identity(3).apply(p), p, atol=1e-12)
    assert np.isfinite(given.apply(np.array([[1.0, 0.0, 0.0]]))).all()


def test_perfect_separation_does_not_run_away() -> None:
    labels = np.arange(12) % 3
    found = scaling.fit_vector_scaling(0.01 + 0.97 * np.eye(3)[labels], labels)
    assert max(found.slopes) <= scaling.MAX_SLOPE
    assert max(map(abs, found.biases)) <= 2 * scaling.MAX_BIAS
