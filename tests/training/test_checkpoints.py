"""Which checkpoints are kept, which is best, and that what comes back is what was saved."""

import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax.training.checkpoints import CheckpointError, Checkpoints
from cervix_jax.training.mesh import make_mesh, replicated
from cervix_jax.training.state import TrainState, create_state


def state_at(step: int, constants: bool = True, trained: tuple[str, ...] = ()) -> TrainState:
    variables = {
        "params": {
            "backbone": {
                "conv": {"kernel": jnp.arange(6.0).reshape(2, 3)},
                "other": {"kernel": jnp.full(3, 1.0 * step)},
            },
            "head": {"logits": {"kernel": jnp.full((3, 3), float(step)), "bias": jnp.zeros(3)}},
        },
        "batch_stats": {"head": {"norm": {"mean": jnp.full(3, step / 7)}}},
        "constants": {"mean_image": jnp.full((2, 2, 3), 5.0)} if constants else {},
    }
    state = create_state(variables, optax.adam(1e-3), trained)
    return state.replace(step=jnp.asarray(step, jnp.int32))


def fill(workdir, losses) -> None:
    with Checkpoints.open(workdir) as checkpoints:
        for step, loss in enumerate(losses, start=1):
            scores = None if loss is None else {"loss": loss, "accuracy": 0.5}
            checkpoints.save(state_at(step), {"step": step, "iterator": {"position": 3 * step}}, scores)


def kept(workdir) -> set[int]:
    return {int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()}


@pytest.mark.parametrize(
    ("losses", "best", "steps"),
    [
        ([0.9, 0.5, 0.7, 0.8], 2, {2, 4}),
        ([0.9, 0.8, 0.7], 3, {3}),
        ([0.5, 0.6, None], 1, {1, 3}),  # interrupted within an epoch: only to continue from
        ([0.5, None, 0.4, None, None], 3, {3, 5}),
        ([0.4, 0.3, math.nan], 2, {2, 3}),
        ([math.nan, 0.3, 0.4], 2, {2, 3}),
    ],
)
def test_the_latest_and_the_one_of_least_loss_are_kept(tmp_path, losses, best, steps) -> None:
    fill(tmp_path, losses)
    assert kept(tmp_path) == steps
    with Checkpoints.open(tmp_path) as checkpoints:
        assert checkpoints.latest == len(losses)
        assert checkpoints.best() == best
        assert checkpoints.record(best) == {"step": best, "iterator": {"position": 3 * best}}


def test_what_a_killed_run_had_yet_to_remove_is_removed(tmp_path) -> None:
    """A checkpoint in whole and one in part; Orbax removes them only as it saves."""
    fill(tmp_path, [0.5, 0.7])
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "first")
    fill(tmp_path / "more", [0.5, 0.7, 0.8, 0.6, 0.9])
    for name, source in {"2": "first/2", "4": "first/2/variables"}.items():
        shutil.copytree(tmp_path / source, tmp_path / "more/checkpoints" / name)
    assert kept(tmp_path / "more") == {1, 2, 4, 5}
    with Checkpoints.open(tmp_path / "more") as checkpoints:
        checkpoints.remove_replaced()
        assert checkpoints.steps == [5, 1]
        assert checkpoints.best() == 1
    assert kept(tmp_path / "more") == {1, 5}


def test_the_best_average_is_kept_beside_the_best_and_the_latest(tmp_path) -> None:
    losses = [(0.9, 0.9), (0.5, 0.8), (0.7, 0.4), (0.8, 0.6)]
    with Checkpoints.open(tmp_path, averaged=True) as checkpoints:
        for step, (raw, averaged) in enumerate(losses, start=1):
            state = state_at(step)
            average = jax.tree.map(lambda x: x + 100, {"params": state.params, "batch_stats": state.batch_stats})
            checkpoints.save(state.replace(average=average), {}, {"loss": raw, "ema_loss": averaged})
    assert kept(tmp_path) == {2, 3, 4}
    sharding = replicated(make_mesh())
    with Checkpoints.open(tmp_path) as checkpoints:
        assert checkpoints.has_average
        assert (checkpoints.best(), checkpoints.best("averaged")) == (2, 3)
        averaged = checkpoints.restore_variables(3, state_at(3).variables(), sharding, "averaged")
        np.testing.assert_array_equal(averaged["params"]["head"]["logits"]["kernel"], np.full((3, 3), 103.0))
        np.testing.assert_array_equal(averaged["params"]["backbone"]["other"]["kernel"], np.full(3, 3.0))  # frozen
    fill(tmp_path / "plain", [0.5])
    with Checkpoints.open(tmp_path / "plain") as checkpoints, pytest.raises(CheckpointError, match="no moving average"):
        checkpoints.best("averaged")


def test_without_a_finished_epoch_there_is_no_best(tmp_path) -> None:
    with Checkpoints.open(tmp_path) as checkpoints:
        assert checkpoints.latest is None
    fill(tmp_path, [None])
    with Checkpoints.open(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="no epoch"):
        assert checkpoints.best()


@pytest.mark.parametrize(("constants", "trained"), [(True, ()), (False, ("other",)), (True, ("conv", "other"))])
def test_what_comes_back_is_what_was_saved(tmp_path, constants, trained) -> None:
    sharding = replicated(make_mesh())
    saved = state_at(3, constants, trained)
    gradient = jax.tree.map(jnp.ones_like, saved.params)
    saved = saved.replace(opt_state=optax.adam(1e-3).update(gradient, saved.opt_state)[1])
    with Checkpoints.open(tmp_path) as checkpoints:
        checkpoints.save(saved, {}, {"loss": 1.0, "accuracy": 0.0})
        checkpoints.save(state_at(3), {}, None)  # there already: nothing happens
    with Checkpoints.open(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(3, state_at(0, constants, trained), sharding)
        variables = checkpoints.restore_variables(3, saved.variables(), sharding)
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    jax.tree.map(np.testing.assert_array_equal, restored, saved)
    jax.tree.map(np.testing.assert_array_equal, variables, saved.variables())


def test_a_checkpoint_that_was_not_finished_is_not_taken_for_one(tmp_path) -> None:
    fill(tmp_path, [0.9, 0.5])
    half = tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp-0"
    half.mkdir()
    (half / "record").write_text(json.dumps({"step": 3}))
    with Checkpoints.open(tmp_path) as checkpoints:
        assert checkpoints.latest == checkpoints.best() == 2
