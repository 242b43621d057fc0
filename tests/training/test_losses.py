"""Loss, optimizer and schedule in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax import config as options
from cervix_jax.training.losses import class_weighted, cross_entropy, l2_penalty
from cervix_jax.training.optimizer import learning_rate, make_optimizer

LOGITS = jnp.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [100.0, 0.0, -100.0]])


def test_cross_entropy_is_minus_the_log_of_the_true_probability() -> None:
    losses = cross_entropy(LOGITS, jnp.array([1, 2, 0]))
    expected = -np.log(np.exp(2) / np.exp([1, 2, 0.5]).sum())
    np.testing.assert_allclose(losses, [expected, np.log(3), 0], atol=1e-6)


def test_cross_entropy_of_a_certain_mistake_is_finite() -> None:
    np.testing.assert_allclose(cross_entropy(LOGITS, jnp.array([0, 0, 2]))[2], 200)


def test_class_weights_multiply_terms() -> None:
    losses, labels = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([0, 1, 2, 2])
    for weights in ((1.0, 1.0, 1.0), ()):
        np.testing.assert_array_equal(class_weighted(losses, labels, weights), losses)
    # Report section 9; a mean weighted by the weights would be 43 / 6.5.
    np.testing.assert_array_equal(class_weighted(losses, labels, (1.0, 0.5, 2.5)), [1, 1, 10, 20])


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


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("inverse", lambda e: 1e-3 / (1 + 0.01 * e)), ("exponential", lambda e: 1e-3 * 0.99**e)],
)
def test_the_learning_rate_decays_by_epochs_and_is_constant_within_one(schedule, expected) -> None:
    rate = learning_rate(options.unflatten({"optimizer.schedule": schedule}).optimizer, 10)
    for step in (0, 9, 10, 19, 20, 295):
        np.testing.assert_allclose(rate(step), expected(step // 10), rtol=1e-12)


def test_the_learning_rate_grows_with_the_batch_and_over_the_first_epochs() -> None:
    """Goyal et al. 2017, sections 2.1 and 2.2."""
    changes = {"optimizer.reference_batch": 256, "optimizer.warmup_epochs": 2.0, "optimizer.decay": 0.0}
    optimizer = options.unflatten(changes).optimizer
    rate = learning_rate(optimizer, 10, 1024)
    found = [rate(step) for step in (0, 9, 18, 19, 20, 500)]
    np.testing.assert_allclose(found, 4e-3 * np.array([1, 10, 19, 20, 20, 20]) / 20, rtol=1e-6)
    np.testing.assert_allclose(learning_rate(optimizer, 10)(500), 1e-3)


def test_the_optimizer_is_adam_at_the_scheduled_rate() -> None:
    config = options.get_config().optimizer
    tx, plain = make_optimizer(config, 1), [optax.adam(rate) for rate in (1e-3, 1e-3 / 1.01, 1e-3 / 1.02)]
    params = {"w": jnp.array([1.0, -2.0])}
    state = expected_state = tx.init(params)
    for step, adam in enumerate(plain):
        gradient = {"w": jnp.array([0.3, -5.0]) * (step + 1)}
        updates, state = tx.update(gradient, state, params)
        expected, expected_state = adam.update(gradient, expected_state, params)
        np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-5)
    # Adam's first step is the rate itself, whatever the size of the gradient (Kingma & Ba 2015, section 2.1).
    first, _ = tx.update({"w": jnp.array([0.3, -5.0])}, tx.init(params), params)
    np.testing.assert_allclose(first["w"], [-1e-3, 1e-3], rtol=1e-4)
