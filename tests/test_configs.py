"""Every file in configs/ is a network that can be trained."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax import config as options
from cervix_jax.training.mesh import make_mesh
from cervix_jax.training.setup import make_setup
from cervix_jax.training.state import create_state

NETWORK_OF_REPORT = {"system", "one_vs_rest"}
NAMES = sorted({path.stem for path in (Path(__file__).parents[1] / "configs").glob("[!_]*.py")} - NETWORK_OF_REPORT)
SLOW = {
    "no_backbone",
    "localiser",
    "best",
    "finetune",
}  # deeper forms of quickstart and quickstart_localiser, and of report
SIZES = {"naive_inception_v3": (75, 75)}  # its least


def random_array(path, leaf) -> jax.Array:
    """As initialisation does it, but compiles nothing."""
    if path[-1].key == "kernel":
        values = np.random.default_rng(0).standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
    else:
        values = np.full(leaf.shape, path[-1].key in ("scale", "var"))
    return jnp.asarray(values, leaf.dtype)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES],
)
def test_two_steps_change_every_trained_parameter_and_no_frozen_one(name: str) -> None:
    module = importlib.import_module(f"configs.{name}")
    assert len(module.__doc__.splitlines()) > 1  # what it reproduces and what it should reach
    config = options.validate(module.get_config())
    config.batch_size, config.dataset.image_size = 3, (size := SIZES.get(name, (40, 32)))
    setup = make_setup(config, make_mesh(), options.num_classes(config), 4)
    variables = jax.tree.map_with_path(random_array, setup.abstract_state().variables())
    state = create_state(variables, setup.tx, setup.model.trained_layers)
    before = jax.tree.map(np.asarray, (state.params, state.frozen))
    for seed in range(2):
        rng = np.random.default_rng(seed)
        batch = {
            "image": rng.integers(0, 256, (3, *size, 3), dtype=np.uint8),
            "label": np.arange(3, dtype=np.int32),
            "index": np.arange(3, dtype=np.int32),
            "mask": np.ones(3, bool),
            "box": np.tile(np.float32([0.2, 0.3, 0.6, 0.7]), (3, 1)),  # for a localiser
        }
        state = setup.train_step(state, batch)
    assert state.metrics.first_bad_step == -1
    assert state.metrics.count == 6
    changed = jax.tree.map(lambda old, new: bool(jnp.any(old != new)), before[0], state.params)
    unchanged = [jax.tree_util.keystr(path) for path, moved in jax.tree.leaves_with_path(changed) if not moved]
    assert unchanged == []
    jax.tree.map(np.testing.assert_array_equal, state.frozen, before[1])
