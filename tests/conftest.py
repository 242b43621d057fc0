"""Fixtures: a small folder of synthetic photographs in Kaggle's layout, and configs that train in seconds."""

import atexit
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # there is a worker for each core already
# Tests run a program once or twice: compiling it fast matters more than its speed (a third of the whole suite's time).
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
# The same small networks are trained by many tests, and by programs that tests start: compile each once.
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share what the process that started them has set
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="cervix_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

hypothesis.settings.register_profile("here", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("here")

from cervix_jax import config as options
from cervix_jax.images import synthetic
from cervix_jax.lock import exclusive

COUNTS = {"train": 60, "additional": 0, "test": 7}


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory) -> Path:
    """Folder of what is made once for all worker processes; tests only read it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"


def made_once(path: Path, make: Callable[[Path], Any]) -> Any:
    """What `make` returns for a folder, made by the worker that comes first; the result is kept as JSON beside it."""
    kept = path.with_suffix(".json")
    with exclusive(path.with_suffix(".lock"), str(path), wait=True):
        if not kept.exists():
            kept.write_text(json.dumps(make(path)))
    return json.loads(kept.read_text())


@pytest.fixture(scope="session")
def manual_dir(shared_dir) -> Path:
    """Raw photographs: 60 labelled, 7 unlabelled."""
    folder = shared_dir / "photographs"
    made_once(folder, lambda folder: synthetic.write_folder(folder, seed=3, counts=COUNTS))
    return folder


@pytest.fixture(scope="session")
def data_dir(shared_dir) -> Path:
    """Root of prepared data sets, shared by the tests, which only read it."""
    return shared_dir / "prepared"


@pytest.fixture
def tiny_config(manual_dir, data_dir):
    """A run of two epochs of three steps on 32 x 24 pixels."""
    return make_tiny_config(manual_dir, data_dir)


@pytest.fixture(scope="session")
def _finished_run(manual_dir, data_dir, shared_dir):
    from cervix_jax.training import loop

    workdir = shared_dir / "finished/run"
    return workdir, made_once(workdir, lambda workdir: loop.train(make_tiny_config(manual_dir, data_dir), workdir))


@pytest.fixture(scope="session")
def localiser_run(manual_dir, data_dir, shared_dir) -> Path:
    """Work directory of a small localiser of the same photographs and fold as `tiny_config`; tests only read it."""
    from cervix_jax.training import loop

    workdir = shared_dir / "localiser/run"
    made_once(workdir, lambda workdir: loop.train(make_localiser_config(manual_dir, data_dir), workdir))
    return workdir


@pytest.fixture(scope="session")
def cropped_run(localiser_run, manual_dir, data_dir, shared_dir):
    """Work directory and result of a classifier on the crops of `localiser_run`, of an epoch; tests only read it."""
    from cervix_jax.training import loop

    config = make_tiny_config(manual_dir, data_dir)
    config.dataset.crop = str(localiser_run)
    config.epochs = 1
    workdir = shared_dir / "cropped/run"
    return workdir, made_once(workdir, lambda workdir: loop.train(config, workdir))


@pytest.fixture(scope="session")
def folds(manual_dir, data_dir, shared_dir):
    """Plan of a finished cross-validation of three folds, an epoch each; tests only read its folder."""
    from cervix_jax.workflows.folds import FoldPlan, train_folds

    config = make_tiny_config(manual_dir, data_dir)
    config.epochs, config.selection.folds, config.selection.fold = 1, 3, 0
    plan = FoldPlan.of(config, shared_dir / "cross_validation/cv", None, 1)
    made_once(plan.workdir, lambda _: train_folds(plan))
    return plan


@pytest.fixture
def folds_copy(folds, tmp_path):
    """The same in a folder that a test may change."""
    return dataclasses.replace(folds, workdir=shutil.copytree(folds.workdir, tmp_path / "cv"))


@pytest.fixture
def run(_finished_run, tmp_path):
    """Work directory and result of a finished run of `tiny_config`; a copy, so that a test may change it."""
    workdir, result = _finished_run
    return shutil.copytree(workdir, tmp_path / "run"), result


def make_tiny_config(manual_dir, data_dir):
    config = options.get_config()
    config.epochs = 2
    config.batch_size = 16
    config.dataset.name = "cervix/initial"
    config.dataset.manual_dir = str(manual_dir)
    config.dataset.data_dir = str(data_dir)
    config.dataset.image_size = (32, 24)
    config.model.backbone.name = "none"
    config.model.widths = (8, 16)
    config.model.blocks = (1, 1)
    return config


def make_localiser_config(manual_dir, data_dir):
    """A localiser on a few random layers, of two epochs."""
    config = make_tiny_config(manual_dir, data_dir)
    config.task = "localise"
    config.model.widths, config.model.blocks = options.get_config().model.widths, options.get_config().model.blocks
    config.model.name = "box_voting"
    config.model.backbone.name = "resnet50"
    config.model.backbone.cut = "pool1_pool"
    config.model.backbone.allow_random = True
    config.optimizer.schedule = "cosine"
    return config
