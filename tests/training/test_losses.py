"""Losses in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from cervix_jax.training.losses import cross_entropy, l2_penalty, soft_targets

LOGITS = jnp.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [100.0, 0.0, -100.0]])


def test_cross_entropy_is_minus_the_log_of_the_true_probability() -> None:
    losses = cross_entropy(LOGITS, jnp.array([1, 2, 0]))
    expected = -np.log(np.exp(2) / np.exp([1, 2, 0.5]).sum())
    np.testing.assert_allclose(losses, [expected, np.log(3), 0], atol=1e-6)


def test_cross_entropy_of_a_certain_mistake_is_finite() -> None:
    np.testing.assert_allclose(cross_entropy(LOGITS, jnp.array([0, 0, 2]))[2], 200)


def test_class_weights_multiply_terms() -> None:
    labels = jnp.array([1, 2, 0])
    plain = cross_entropy(LOGITS, labels)
    np.testing.assert_array_equal(cross_entropy(LOGITS, labels, (1.0, 1.0, 1.0)), plain)
    # Report section 9; a mean weighted by the weights would divide by their sum.
    np.testing.assert_array_equal(cross_entropy(LOGITS, labels, (1.0, 0.5, 2.5)), plain * np.array([0.5, 2.5, 1.0]))


def test_soft_targets_are_distributions_that_keep_what_is_said_of_them() -> None:
    smoothed = soft_targets(3, 0.3, 0.0)
    np.testing.assert_allclose(smoothed, 0.7 * np.eye(3) + 0.1)  # Szegedy et al. 2016, section 7
    ambiguous = soft_targets(3, 0.0, 0.2)
    np.testing.assert_allclose(ambiguous, [[1, 0, 0], [0, 0.8, 0.2], [0, 0.2, 0.8]])
    both = soft_targets(3, 0.3, 0.2)
    np.testing.assert_allclose(both.sum(axis=1), 1)
    np.testing.assert_allclose(both, ambiguous @ smoothed)


def test_softened_cross_entropy_is_least_at_the_soft_targets() -> None:
    labels, options = jnp.array([1, 2, 0]), {"label_smoothing": 0.1, "ambiguity": 0.2}
    targets = soft_targets(3, 0.1, 0.2)[np.asarray(labels)]
    expected = -(targets * log_softmax(np.asarray(LOGITS, float), axis=1)).sum(axis=1)
    np.testing.assert_allclose(cross_entropy(LOGITS, labels, **options), expected, rtol=1e-5)
    gradient = jax.grad(lambda logits: cross_entropy(logits, labels, **options).sum())(jnp.log(targets))
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"ambiguity": 0.2}])
def test_one_way_to_soften_is_enough(options) -> None:
    logits, labels = jnp.array([[1.0, 2.0, 0.5]] * 5), np.array([0, 1, 2, 1, 0])  # more examples than classes
    targets = soft_targets(3, **({"label_smoothing": 0.0, "ambiguity": 0.0} | options))[labels]
    expected = -(targets * log_softmax(np.asarray(logits, float), axis=1)).sum(axis=1)
    np.testing.assert_allclose(cross_entropy(logits, jnp.asarray(labels), **options), expected, rtol=1e-5)


def test_l2_is_over_kernels_alone() -> None:
    params = {
        "conv": {"kernel": jnp.full((2, 2, 1, 3), 0.5), "bias": jnp.full(3, 7.0)},
        "norm": {"scale": jnp.full(3, 7.0), "bias": jnp.full(3, 7.0)},
        "deeper": {"dense": {"kernel": jnp.full((2, 2), 2.0)}},
    }
    assert l2_penalty(params) == 12 * 0.25 + 4 * 4.0
    gradient = jax.grad(l2_penalty)(params)
    np.testing.assert_array_equal(gradient["deeper"]["dense"]["kernel"], 4.0)  # Keras' l2: d(w^2) = 2 w
    assert not gradient["norm"]["scale"].any()
