"""One training step: what changes, what does not, and that the order of the batch does not matter."""

from functools import cache
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from cervix_jax import config as options
from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.models.layers import TrainingPass
from cervix_jax.training.forward import make_forward
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import make_mesh
from cervix_jax.training.optimizer import make_optimizer
from cervix_jax.training.state import TrainState, create_state
from cervix_jax.training.step import example_keys, make_train_step

SIZE = (24, 16)
SMALL = {
    "dataset.image_size": SIZE,
    "model.widths": (8,),
    "model.blocks": (1,),
    "model.backbone.name": "none",
    "batch_size": 8,
}
UNAUGMENTED = {
    "augmentation__horizontal_flip": False,
    "augmentation__vertical_flip": False,
    "augmentation__translation": 0.0,
    "augmentation__shear": 0.0,
    "augmentation__zoom": 0.0,
}
WITH_BACKBONE = {"model.backbone.name": "resnet50", "model.backbone.cut": "conv1_bn"}


def make_config(**changes):
    return options.unflatten(SMALL | {name.replace("__", "."): value for name, value in changes.items()})


def batch_of(count: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8),
        "label": (np.arange(count) % 3).astype(np.int32),
        "index": np.arange(10, 10 + count, dtype=np.int32),
        "mask": np.ones(count, bool),
    }


def start(config) -> tuple[Classifier, TrainState, optax.GradientTransformation]:
    model, tx = make_classifier(config.model.to_dict()), make_optimizer(config, 4)
    variables = init_variables(model, SIZE, 0)
    return model, create_state(variables, tx, model.trained_layers), tx


@cache
def compiled(*changes):
    """The step of a config, once a context; the state it starts from is copied, since steps consume theirs."""
    config = make_config(**dict(changes))
    model, state, tx = start(config)
    step = make_train_step(model, tx, config, make_mesh())
    return step, state


def train(steps: int = 1, batch: dict[str, np.ndarray] | None = None, **changes) -> tuple[TrainState, TrainState]:
    """The state before and after."""
    step, before = compiled(*sorted(changes.items()))
    state = jax.tree.map(jnp.copy, before)
    for _ in range(steps):
        state = step(state, batch_of() if batch is None else batch)
    return before, state


def equal(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool(jnp.array_equal(x, y)), a, b)))


def test_a_batch_can_be_learned_by_heart() -> None:
    _, after = train(200, **UNAUGMENTED, model__dropout_rate=0.0, optimizer__l2=0.0, optimizer__learning_rate=0.01)
    model, _, _ = start(make_config())
    batch = batch_of()
    logits = make_forward(model)(after.variables(), jnp.asarray(batch["image"]))
    assert (np.asarray(logits).argmax(-1) == batch["label"]).all()


PLAIN = {**UNAUGMENTED, "model__dropout_rate": 0.0, "model__batch_norm": False}


@pytest.mark.parametrize("mask", [np.ones(8, bool), np.arange(8) < 6], ids=["whole", "padded"])
def test_microbatches_have_the_gradient_of_the_batch(mask) -> None:
    """If nothing couples the examples; Adam's first update would hide the scale, but its moments do not."""
    batch = batch_of() | {"mask": mask}
    config = {**PLAIN, "batch_size": int(mask.sum())}
    _, whole = train(1, batch, **config)
    _, parts = train(1, batch, **config, accumulate=2)
    for one, other in zip(jax.tree.leaves(whole.opt_state[0].mu), jax.tree.leaves(parts.opt_state[0].mu), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-7)
    for one, other in zip(jax.tree.leaves(whole.metrics), jax.tree.leaves(parts.metrics), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5)


def test_batch_norm_is_updated_once_per_microbatch() -> None:
    """Two microbatches of the same images update the statistics as two steps would, if the weights were constant."""
    four = {name: x[:4] for name, x in batch_of().items()}
    twice_four = {name: x.repeat(2, axis=0) for name, x in four.items()}  # parts take every second row
    config = {**UNAUGMENTED, "model__dropout_rate": 0.0}
    _, parts = train(1, twice_four, **config, accumulate=2)
    before, half = train(1, four, **config, batch_size=4)
    old, once, twice = (s.batch_stats["head"]["stem"]["norm"]["mean"] for s in (before, half, parts))
    batch_mean = (once - 0.9 * old) / 0.1
    np.testing.assert_allclose(twice, 0.9 * once + 0.1 * batch_mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch_size", "accumulate", "devices", "rows"), [(8, 2, 8, 1), (6, 3, 4, 2), (12, 2, 4, 3)])
def test_each_device_has_whole_microbatches(batch_size: int, accumulate: int, devices: int, rows: int) -> None:
    model, _, tx = start(config := make_config(batch_size=batch_size, accumulate=accumulate))
    with pytest.raises(options.ConfigError, match=f"with {devices} devices it must be a divisor of {rows}, the images"):
        make_train_step(model, tx, config, Mock(spec=Mesh, size=devices))


def test_groups_of_batch_norm_are_not_split_between_devices() -> None:
    model, _, tx = start(config := make_config(batch_norm_groups=2))
    with pytest.raises(options.ConfigError, match=r"batch_norm_groups is 2; with 8 devices .* a multiple of 8"):
        make_train_step(model, tx, config, Mock(spec=Mesh, size=8))


def test_a_frozen_backbone_has_no_optimizer_state_and_never_changes() -> None:
    before, after = train(3, **WITH_BACKBONE)
    assert set(before.params) == {"head"}
    assert "backbone" not in jax.tree_util.keystr(tuple(path for path, _ in jax.tree.leaves_with_path(after.opt_state)))
    assert equal(before.frozen, after.frozen)
    assert equal(before.batch_stats["backbone"], after.batch_stats["backbone"])
    assert not equal(before.params["head"], after.params["head"])
    assert not equal(before.batch_stats["head"], after.batch_stats["head"])


def test_a_trained_backbone_changes_and_so_do_its_statistics() -> None:
    before, after = train(1, **WITH_BACKBONE, model__backbone__trainable="all")
    assert before.frozen == {}
    assert not equal(before.params["backbone"], after.params["backbone"])
    assert not equal(before.batch_stats["backbone"], after.batch_stats["backbone"])


def test_stages_of_a_backbone_are_frozen_and_trained_apart() -> None:
    """The frozen one has no gradient, no optimizer state, and keeps its statistics."""
    before, after = train(
        2, **WITH_BACKBONE | {"model.backbone.cut": "conv2_block1_1_bn"}, model__backbone__trainable=("conv2",)
    )
    conv1, conv2 = {"conv1_conv", "conv1_bn"}, {"conv2_block1_1_conv", "conv2_block1_1_bn"}
    assert (set(before.frozen["backbone"]), set(before.params["backbone"])) == (conv1, conv2)
    names = {path[-2].key for path, _ in jax.tree.leaves_with_path(after.opt_state) if hasattr(path[-1], "key")}
    assert not names & conv1
    assert names >= conv2
    assert equal(before.frozen, after.frozen)
    assert not any(equal(before.params["backbone"][name], after.params["backbone"][name]) for name in conv2)
    old, new = before.batch_stats["backbone"], after.batch_stats["backbone"]
    assert equal(old["conv1_bn"], new["conv1_bn"])
    assert not equal(old["conv2_block1_1_bn"], new["conv2_block1_1_bn"])


def test_the_gradient_is_that_of_weighted_cross_entropy_plus_l2() -> None:
    """Against finite differences of the loss written out, in the direction that SGD moves the parameters."""
    config = make_config(
        **UNAUGMENTED, model__dropout_rate=0.0, loss__class_weights=(1.0, 0.5, 3.0), optimizer__l2=0.01
    )
    model, _, _ = start(config)
    tx = optax.sgd(1.0)
    variables = init_variables(model, SIZE, 0)
    state = create_state(variables, tx)
    batch = batch_of()

    @jax.jit
    def loss(params):
        logits = model.apply(
            variables | {"params": params},
            jnp.float32(batch["image"]),
            training=TrainingPass(),
            mutable=["batch_stats"],
        )[0][0]
        p = jax.nn.softmax(logits)[jnp.arange(8), batch["label"]]
        kernels = [w for path, w in jax.tree.leaves_with_path(params) if path[-1].key == "kernel"]
        weights = jnp.array([1.0, 0.5, 3.0])[batch["label"]]
        return -(weights * jnp.log(p)).sum() / 8 + 0.01 * sum((w**2).sum() for w in kernels)

    after = make_train_step(model, tx, config, make_mesh())(jax.tree.map(jnp.copy, state), batch)
    gradient = jax.tree.map(lambda old, new: old - new, state.params, after.params)
    norm = optax.tree.norm(gradient)

    def along(distance):
        return loss(jax.tree.map(lambda p, g: p + distance / norm * g, state.params, gradient))

    np.testing.assert_allclose((along(1e-3) - along(-1e-3)) / 2e-3, norm, rtol=0.01)


def test_metrics_are_sums_over_the_epoch_of_plain_cross_entropy() -> None:
    _, after = train(3, loss__class_weights=(0.0, 0.0, 0.0), optimizer__l2=100.0)
    assert after.metrics.count == 24
    assert 0 <= after.metrics.correct <= 24
    assert 0 < after.metrics.loss < 24 * 10  # neither the weights nor L2 are in it
    assert after.metrics.first_bad_step == -1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_step_that_is_not_finite_is_remembered(value: float) -> None:
    step, before = compiled()
    bad = batch_of() | {"image": batch_of()["image"].astype(np.float32)}
    bad["image"][3] = value
    good = bad | {"image": np.nan_to_num(bad["image"], nan=0.0, posinf=0.0)}
    state = jax.tree.map(jnp.copy, before)
    for batch in (good, bad, good, bad):
        state = step(state, batch)
    assert state.metrics.first_bad_step == 2


def test_an_example_is_treated_alike_wherever_it_stands() -> None:
    batch = batch_of()
    order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
    _, straight = train()
    _, shuffled = train(batch={name: value[order] for name, value in batch.items()})
    np.testing.assert_allclose(straight.metrics.loss, shuffled.metrics.loss, rtol=1e-5)


def test_keys_differ_by_seed_step_example_and_purpose() -> None:
    index = jnp.arange(5)
    drawn = [
        jax.random.key_data(keys)
        for seed in (0, 1)
        for step in (0, 1)
        for keys in example_keys(seed, jnp.asarray(step), index)
    ]
    rows = np.concatenate(drawn)
    assert len(np.unique(rows, axis=0)) == len(rows) == 2 * 2 * 2 * 5


def test_the_moving_average_is_that_of_parameters_and_statistics():
    config = make_config(optimizer__ema_decay=0.4)
    model, tx = make_classifier(config.model.to_dict()), make_optimizer(config, 4)
    variables = init_variables(model, SIZE, 0)
    state = create_state(variables, tx, model.trained_layers, averaged=True)
    average = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    step = make_train_step(model, tx, config, make_mesh())
    plain = jax.tree.map(jnp.copy, create_state(variables, tx, model.trained_layers))
    plain_step = make_train_step(model, tx, make_config(), make_mesh())
    state = jax.tree.map(jnp.copy, state)
    for number in range(1, 7):
        state, plain = step(state, batch_of()), plain_step(plain, batch_of())
        decay = min(0.4, (1 + number) / (10 + number))  # warms up until the fifth step
        now = jax.device_get({"params": plain.params, "batch_stats": plain.batch_stats})
        average = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, average, now)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.average, average)
    jax.tree.map(np.testing.assert_array_equal, state.params, plain.params)  # training itself does not change
    averaged = state.averaged_variables()
    assert jax.tree.structure(averaged) == jax.tree.structure(state.variables())
