"""Adam and its learning rate in closed form."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax import config as options
from cervix_jax.training.optimizer import SCHEDULES, learning_rate, make_optimizer


def test_the_schedules_are_the_choices_of_the_config() -> None:
    for schedule in SCHEDULES:
        options.validate(options.unflatten({"optimizer.schedule": schedule}))
    with pytest.raises(options.ConfigError, match=", ".join(SCHEDULES)):
        options.validate(options.unflatten({"optimizer.schedule": "linear"}))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("inverse", lambda e: 1e-3 / (1 + 0.01 * e)),
        ("exponential", lambda e: 1e-3 * 0.99**e),
        ("cosine", lambda e: 1e-3 * (1 + np.cos(np.pi * e / 30)) / 2),
    ],
)
def test_the_learning_rate_decays_by_epochs_and_is_constant_within_one(schedule, expected) -> None:
    rate = learning_rate(options.unflatten({"optimizer.schedule": schedule}), 10)
    for step in (0, 9, 10, 19, 20, 295):
        np.testing.assert_allclose(rate(step), expected(step // 10), rtol=1e-5)


def test_the_learning_rate_grows_with_the_batch_and_over_the_first_epochs() -> None:
    """Goyal et al. 2017, sections 2.1 and 2.2."""
    changes = {"optimizer.reference_batch": 256, "optimizer.warmup_epochs": 2.0, "optimizer.decay": 0.0}
    rate = learning_rate(options.unflatten(changes | {"batch_size": 1024}), 10)
    rates = [rate(step) for step in (0, 9, 18, 19, 20, 500)]
    np.testing.assert_allclose(rates, 4e-3 * np.array([1, 10, 19, 20, 20, 20]) / 20, rtol=1e-6)
    np.testing.assert_allclose(learning_rate(options.unflatten(changes | {"batch_size": 256}), 10)(500), 1e-3)


def test_the_optimizer_is_adam_at_the_scheduled_rate() -> None:
    config = options.get_config()
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
