"""What every head in the registry promises: all of it learns, and its options do what they say."""

import dataclasses
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from random_networks import random_variables

from cervix_jax import config as options
from cervix_jax.models.heads import HEADS
from cervix_jax.models.layers import TrainingPass

SMALL = {
    "box_voting": {"width": 8},
    "inception_residual": {"stem": True, "widths": (8, 16), "blocks": (1, 1)},
    "naive_transfer": {"convolutions": (8, 8), "affine": 16},
    "vanilla_cnn": {"widths": (4, 4, 8, 8, 8), "affine": (16, 8)},
}
X = jax.random.normal(jax.random.key(1), (4, 18, 13, 3))


def make_head(name: str, **attributes: Any) -> nn.Module:
    return HEADS[name].load()(**SMALL[name], **attributes)


@cache
def variables_of(head: nn.Module) -> Any:
    return random_variables(jax.eval_shape(head.init, jax.random.key(0), X))


def test_every_head_is_small_enough_here() -> None:
    assert set(SMALL) == set(HEADS)


@pytest.mark.parametrize("name", HEADS)
def test_the_options_a_head_reads_are_its_attributes_with_their_defaults(name: str) -> None:
    attributes = {field.name: field.default for field in dataclasses.fields(HEADS[name].load())}
    for option in HEADS[name].options:
        assert attributes[option] == options.OPTIONS[f"model.{option}"][0]


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_gets_a_gradient_and_every_statistic_moves(name: str) -> None:
    head = make_head(name)
    variables = variables_of(head)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def grad_fn(params):
        (logits, _), updates = head.apply(
            variables | {"params": params}, X, training=TrainingPass(), mutable=["batch_stats"]
        )
        return jnp.sum(jax.nn.log_softmax(logits)[:, 0]), updates["batch_stats"]

    gradient, stats = grad_fn(variables["params"])
    dead = [jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(gradient) if not jnp.any(leaf)]
    assert dead == []
    moved = jax.tree.map(lambda old, new: bool(jnp.any(old != new)), variables["batch_stats"], stats)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", HEADS)
def test_without_batch_norm_an_example_does_not_depend_on_the_others(name: str) -> None:
    head = make_head(name, batch_norm=False)
    variables = variables_of(head)
    assert set(variables) == {"params"}
    apply = jax.jit(lambda x: head.apply(variables, x, training=TrainingPass(), mutable=["batch_stats"])[0][0])
    np.testing.assert_allclose(apply(X)[0], apply(X.at[1:].add(1.0))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_dropout_acts_only_with_keys_and_on_the_features_alone(name: str) -> None:
    head = make_head(name, dropout_rate=0.4)
    variables = variables_of(head)

    @jax.jit
    def apply(keys):
        both = (TrainingPass(), TrainingPass(dropout_keys=keys))
        return [head.apply(variables, X, training=training, mutable=["batch_stats"])[0] for training in both]

    (plain, plain_points), (dropped, dropped_points) = apply(jax.random.split(jax.random.key(2), 4))
    assert not np.allclose(plain, dropped)
    np.testing.assert_allclose(plain_points["features"], dropped_points["features"], rtol=1e-5)
