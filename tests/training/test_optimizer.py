"""Adam and its learning rate in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax import config as options
from cervix_jax.training.optimizer import SCHEDULES, learning_rate, make_optimizer, stage_depths


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


PARAMS = {"backbone": {"conv2_block1_1_conv": {"kernel": jnp.ones(2)}}, "head": {"logits": {"kernel": jnp.ones(2)}}}
GRADIENT = {
    "backbone": {"conv2_block1_1_conv": {"kernel": jnp.full(2, 3.0)}},
    "head": {"logits": {"kernel": jnp.full(2, 4.0)}},
}


def first_update(**changes):
    tx = make_optimizer(options.unflatten({f"optimizer.{name}": value for name, value in changes.items()} | CUT), 1)
    return tx.update(GRADIENT, tx.init(PARAMS), PARAMS)[0]


CUT = {"model.backbone.cut": "conv3_block4_out", "model.backbone.trainable": ("conv2", "conv3")}


def test_weight_decay_shrinks_kernels_by_its_rate_and_biases_never() -> None:
    tx = make_optimizer(options.unflatten({"optimizer.weight_decay": 0.1}), 1)
    params = {"norm": {"kernel": jnp.full(2, 5.0), "bias": jnp.full(2, 5.0)}}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["norm"]["kernel"], -1e-3 * 0.1 * 5, rtol=1e-5)
    np.testing.assert_array_equal(updates["norm"]["bias"], 0)


def test_clipping_keeps_the_direction_of_a_large_gradient_and_small_ones_whole() -> None:
    """Adam's first moment after a step is 0.1 times the gradient that it was given."""
    for limit, factor in ((1.0, 1 / np.sqrt(50)), (100.0, 1.0)):
        tx = make_optimizer(options.unflatten({"optimizer.clip_norm": limit}), 1)
        _, state = tx.update(GRADIENT, tx.init(PARAMS), PARAMS)
        moment = optax.tree_utils.tree_get(state, "mu")
        np.testing.assert_allclose(moment["head"]["logits"]["kernel"], 0.1 * 4 * factor, rtol=1e-5)


def test_stages_of_the_backbone_learn_slower_the_earlier_they_are() -> None:
    depths = stage_depths(options.unflatten(CUT))
    assert depths["conv3_block4_3_conv"] == 1
    assert depths["conv2_block1_1_conv"] == 2
    assert "conv1_conv" not in depths
    slower, plain = first_update(backbone_rate=0.5), first_update()
    np.testing.assert_allclose(slower["head"]["logits"]["kernel"], plain["head"]["logits"]["kernel"])
    layer = "conv2_block1_1_conv"
    np.testing.assert_allclose(slower["backbone"][layer]["kernel"], plain["backbone"][layer]["kernel"] * 0.25)


def test_stages_of_the_backbone_rest_until_their_turn_comes() -> None:
    """Two steps an epoch, half an epoch a stage: conv2, the second before the head, rests for two steps."""
    tx = make_optimizer(options.unflatten({"optimizer.unfreeze_epochs": 0.5} | CUT), 2)
    state, rests = tx.init(PARAMS), []
    for _ in range(4):
        updates, state = tx.update(GRADIENT, state, PARAMS)
        rests.append(bool((updates["backbone"]["conv2_block1_1_conv"]["kernel"] == 0).all()))
        assert (updates["head"]["logits"]["kernel"] != 0).all()
    assert rests == [True, True, False, False]


def test_a_network_without_a_trained_backbone_has_no_stages() -> None:
    assert stage_depths(options.unflatten({"model.backbone.name": "none"})) == {}
    assert stage_depths(options.get_config()) == {}
