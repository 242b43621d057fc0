"""Trained and frozen parameters apart, and together again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax.training.state import MetricSums, count_parameters, create_state

VARIABLES = {
    "params": {
        "backbone": {"first": {"kernel": jnp.ones((2, 3))}, "second": {"kernel": jnp.full(4, 2.0)}},
        "head": {"logits": {"bias": jnp.zeros(3)}},
    },
    "batch_stats": {"backbone": {"first": {"mean": jnp.ones(3)}}},
    "constants": {"mean_image": jnp.ones((2, 2, 3))},
}


def equal(one, other) -> bool:
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))
    )


@pytest.mark.parametrize(("trained", "frozen_count"), [((), 10), (("second",), 6), (("first", "second"), 0)])
def test_layers_are_split_into_trained_and_frozen_ones(trained, frozen_count) -> None:
    state = create_state(VARIABLES, optax.adam(1e-3), trained)
    assert set(state.params.get("backbone", {})) == set(trained)
    assert (count_parameters(state.params), count_parameters(state.frozen)) == (13 - frozen_count, frozen_count)
    assert equal(state.opt_state[0].mu, jax.tree.map(jnp.zeros_like, state.params))
    assert equal(state.variables(), VARIABLES)
    assert state.average == {}


def test_other_variables_are_split_alike() -> None:
    state = create_state(VARIABLES, optax.adam(1e-3), ("second",))
    others = jax.tree.map(lambda x: x + 1, VARIABLES)
    replaced = state.with_variables(others)
    assert equal(replaced.variables(), others)
    assert jax.tree.structure(replaced) == jax.tree.structure(state)


def test_the_average_starts_at_the_variables_as_a_copy() -> None:
    state = create_state(VARIABLES, optax.adam(1e-3), ("second",), averaged=True)
    assert equal(state.averaged_variables(), VARIABLES)
    for own, averaged in zip(jax.tree.leaves(state.params), jax.tree.leaves(state.average["params"]), strict=True):
        assert own.unsafe_buffer_pointer() != averaged.unsafe_buffer_pointer()
    changed = state.with_averaged_variables(jax.tree.map(lambda x: x + 1, VARIABLES))
    np.testing.assert_array_equal(changed.averaged_variables()["params"]["backbone"]["second"]["kernel"], 3.0)
    np.testing.assert_array_equal(changed.averaged_variables()["params"]["backbone"]["first"]["kernel"], 1.0)  # frozen


def test_sums_start_at_zero_without_a_bad_step() -> None:
    sums = MetricSums.zero()
    assert (sums.loss, sums.correct, sums.count, sums.first_bad_step) == (0, 0, 0, -1)
