"""The same training in every layout: 'jit' and 'pmap', on 1, 2, 4 and 8 devices, with padded batches and without.

Batch norm over the global batch, augmentation and dropout by example, a stage of the backbone frozen and one trained.
Gradients are compared in float32; parameters and losses after several steps of Adam in float64, since it divides small
differences of gradients by small gradients. The devices are host devices of two other processes, one in each precision,
and of two more that are one run together.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.models.classifier import make_classifier
from cervix_jax.training import loop, processes
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import make_mesh, replicate, replicated, shard_batch
from cervix_jax.training.optimizer import make_optimizer
from cervix_jax.training.state import create_state
from cervix_jax.training.step import make_train_step

SIZE = (24, 16)
STEPS = 50
BATCH_SIZE = 10
ONE, TOGETHER = "jit-1", "jit-2-processes"
# Batches of 10 divide over two devices and are padded for four and eight.
LAYOUTS = [ONE, "jit-8", "pmap-2", "pmap-8"]
MORE_LAYOUTS = ["jit-2", "jit-4", "pmap-1", "pmap-4"]
GROUPED = ["jit-1-groups", "jit-2-groups", "pmap-2-groups"]  # batch norm in two groups
COMPARED = [*LAYOUTS[1:], *(pytest.param(layout, marks=pytest.mark.slow) for layout in MORE_LAYOUTS)]
CHANGES = {
    "dataset.image_size": SIZE,
    "model.widths": (4,),
    "model.blocks": (1,),
    "model.backbone.cut": "conv2_block1_1_bn",
    "model.backbone.trainable": ("conv2",),
    "loss.class_weights": (1.0, 0.5, 2.0),
}


def record_layouts(folder: Path, layouts: str) -> None:
    """In float64, losses and parameters; in float32, gradients. Called in a process of eight devices."""
    for layout in layouts.split():
        record(folder, layout)


def record_together(folder: Path, coordinator: str, process_id: int) -> None:
    """The same as one of two processes of one device each."""
    with processes.join_processes(coordinator, 2, process_id):
        record(folder, TOGETHER)


def record(folder: Path, layout: str) -> None:
    double, together = bool(jax.config.jax_enable_x64), layout == TOGETHER
    parallel, devices = layout.split("-")[:2]
    groups = 2 if layout in GROUPED else 1
    changes = {"batch_size": BATCH_SIZE, "parallel": parallel, "batch_norm_groups": groups}
    config = options.unflatten(CHANGES | changes)
    model = make_classifier(config.model.to_dict(), 3)
    variables = init_variables(model, SIZE, 0)
    mesh = make_mesh() if together else make_mesh(jax.devices()[: int(devices)])
    tx = make_optimizer(config, 4) if double else remember_gradients()
    state = jax.tree.map(_double if double else jnp.copy, create_state(variables, tx, model.trained_layers))
    state = replicate(state, replicated(mesh))
    step = make_train_step(model, tx, config, mesh)
    losses = []
    for i in range(STEPS if double else 1):
        batch = batch_of(BATCH_SIZE, i)
        rows = np.split(np.arange(BATCH_SIZE), jax.process_count())[jax.process_index()]
        state = step(state, shard_batch({key: x[rows] for key, x in batch.items()}, mesh))
        losses.append(float(state.metrics.loss))
        if i == 4 and processes.is_lead_host():
            np.savez(folder / f"parameters-{layout}.npz", *leaves((state.params, state.batch_stats)))
    if double and processes.is_lead_host():
        counts = [int(state.metrics.count), int(state.metrics.correct)]
        (folder / f"losses-{layout}.json").write_text(json.dumps([losses, counts]))
    elif not double:
        np.savez(folder / f"gradients-{layout}.npz", *leaves(state.opt_state))


def remember_gradients() -> optax.GradientTransformation:
    """Leaves parameters alone and keeps the gradient as its state."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradients, state, params=None):
        return jax.tree.map(jnp.zeros_like, gradients), gradients

    return optax.GradientTransformation(init, update)


def batch_of(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8),
        "label": rng.integers(0, 3, count, dtype=np.int32),
        "index": rng.permutation(100)[:count].astype(np.int32),
        "mask": np.ones(count, bool),
    }


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _double(x):
    return jnp.array(x, jnp.float64 if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype)


def python(code: str, *arguments: str | Path, devices: int, double: bool) -> subprocess.Popen:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_ENABLE_X64": str(int(double))}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1]); {code}", Path(__file__).parent]
    return subprocess.Popen([*command, *arguments], env=environment)


IMPORT = "from pathlib import Path; from test_layouts import record_layouts, record_together; "


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    started = record_apart(folder, LAYOUTS)
    together = IMPORT + "record_together(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))"
    started += [python(together, folder, coordinator, str(i), devices=1, double=True) for i in range(2)]
    assert [process.wait() for process in started] == [0, 0, 0, 0]
    return folder


@pytest.fixture(scope="module")
def all_recorded(recorded) -> Path:
    assert [process.wait() for process in record_apart(recorded, MORE_LAYOUTS + GROUPED)] == [0, 0]
    return recorded


def record_apart(folder: Path, layouts: list[str]) -> list[subprocess.Popen]:
    code = IMPORT + "record_layouts(Path(sys.argv[2]), sys.argv[3])"
    return [python(code, folder, " ".join(layouts), devices=8, double=double) for double in (False, True)]


@pytest.fixture
def records(request, layout) -> Path:
    return request.getfixturevalue("all_recorded" if layout in MORE_LAYOUTS else "recorded")


def arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.mark.parametrize("layout", COMPARED)
def test_gradients_are_equal_in_float32(records, layout) -> None:
    one, other = (arrays(records / f"gradients-{which}.npz") for which in (ONE, layout))
    assert len(one) == len(other) > 10
    for a, b in zip(one, other, strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - b).max() <= 1e-5 * max(1, np.abs(a).max())


@pytest.mark.parametrize("layout", [TOGETHER, *COMPARED])
def test_parameters_after_five_steps_are_equal_in_float64(records, layout) -> None:
    one, other = (arrays(records / f"parameters-{which}.npz") for which in (ONE, layout))
    for a, b in zip(one, other, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layout", [TOGETHER, *COMPARED])
def test_loss_curves_are_equal_in_float64(records, layout) -> None:
    one, other = (json.loads((records / f"losses-{which}.json").read_text()) for which in (ONE, layout))
    assert one[1] == other[1]
    assert one[1][0] == STEPS * BATCH_SIZE  # rows of padding are not counted
    np.testing.assert_allclose(np.diff(one[0], prepend=0), np.diff(other[0], prepend=0), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("layout", GROUPED[1:])
def test_groups_of_batch_norm_are_the_same_wherever_they_are(all_recorded, layout) -> None:
    for name in ("gradients", "parameters"):
        one, other = (arrays(all_recorded / f"{name}-{which}.npz") for which in (GROUPED[0], layout))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, np.abs(a).max()))
    whole, grouped = (arrays(all_recorded / f"gradients-{which}.npz") for which in (ONE, GROUPED[0]))
    assert max(np.abs(a - b).max() for a, b in zip(whole, grouped, strict=True)) > 1e-3


TRAIN = """
from pathlib import Path; from cervix_jax import config as options; from cervix_jax.training import loop; import json
changes = json.loads(sys.argv[2]); loop.train(options.unflatten(options.flatten(changes)), Path(sys.argv[3]))
"""


def test_a_run_started_on_four_devices_under_pmap_resumes_on_one_under_jit(tiny_config, run, tmp_path) -> None:
    """The checkpoint does not depend on the layout, and the data continue where they were."""
    workdir, _ = run
    tiny_config.epochs = 1
    started = tiny_config.to_dict() | {"parallel": "pmap"}
    process = python(TRAIN, json.dumps(started), tmp_path / "moved", devices=4, double=False)
    assert process.wait() == 0
    tiny_config.epochs = 2
    loop.train(tiny_config, tmp_path / "moved")
    ours, theirs = runs.read_metrics(tmp_path / "moved"), runs.read_metrics(workdir)
    for name in ("step", "learning_rate"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose([row[name] for row in ours], [row[name] for row in theirs], rtol=1e-3)
