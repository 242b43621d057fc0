"""Damage of a run's files is found or harmless, nothing is thrown away, and training goes on from what is whole."""

import json
import shutil

import jax
import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.training import loop
from cervix_jax.training.checkpoints import DAMAGED, Checkpoints, DamagedError
from cervix_jax.training.mesh import make_mesh, replicated
from cervix_jax.training.recovery import rebuild_record, recovered_rows, restore_newest, set_unreadable_aside
from tests.training.test_checkpoints import fill, kept, state_at

SHARDING = replicated(make_mesh())


def flip(path, rng) -> bytes:
    """Flips a random bit of a file; returns what was there."""
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(flipped)
    return content


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: bool((np.asarray(x) == np.asarray(y)).all()), a, b))


@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Orbax' threads
def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_found_or_harmless(tmp_path) -> None:
    fill(tmp_path, [0.5])
    files = [path for path in sorted((tmp_path / "checkpoints").rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) > 10
    rng, found = np.random.default_rng(0), set()
    for path in files:
        for _ in range(4):
            content = flip(path, rng)
            try:
                with Checkpoints.open(tmp_path) as checkpoints:
                    (step,) = checkpoints.steps
                    state, record = checkpoints.restore(step, state_at(0), SHARDING)
                    metrics = checkpoints.metrics(step)
            except Exception:
                found.add(path)
            else:
                assert same(state.variables(), state_at(1).variables())
                assert record == {"step": 1, "iterator": {"position": 3}}
                assert metrics == {"loss": 0.5, "accuracy": 0.5}
            path.write_bytes(content)
    assert any("variables" in str(path) for path in found)


@pytest.mark.parametrize("item", ["variables", "optimizer", "record", "metrics"])
def test_the_checkpoint_before_a_damaged_one_is_gone_back_to(tmp_path, item, capsys) -> None:
    fill(tmp_path, [0.4, 0.9])
    assert kept(tmp_path) == {1, 2}
    damaged = tmp_path / "checkpoints/2" / item
    for path in damaged.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    set_unreadable_aside(tmp_path)
    with Checkpoints.open(tmp_path) as checkpoints:
        state, record = restore_newest(tmp_path, checkpoints, state_at(0), SHARDING)
        assert (int(state.step), record["step"]) == (1, 1)
        assert same(state.variables(), state_at(1).variables())
        checkpoints.save(state_at(2), {"step": 2}, {"loss": 0.3, "accuracy": 0.5})  # its place is free again
    assert (tmp_path / DAMAGED / "2" / item).exists()
    assert "checkpoints/2 is damaged" in capsys.readouterr().err
    with Checkpoints.open(tmp_path) as checkpoints:
        assert checkpoints.record(2) == {"step": 2}


def test_a_damaged_best_checkpoint_is_found_though_a_newer_one_is_whole(tmp_path, capsys) -> None:
    fill(tmp_path, [0.4, 0.9])
    data = max((tmp_path / "checkpoints/1/variables").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    data.write_bytes(data.read_bytes()[:-1])
    with Checkpoints.open(tmp_path) as checkpoints:
        state, _ = restore_newest(tmp_path, checkpoints, state_at(0), SHARDING)
        assert (int(state.step), checkpoints.steps) == (2, [2])
    assert (tmp_path / DAMAGED / "1").is_dir()
    assert "checkpoints/1 is damaged" in capsys.readouterr().err


def test_weights_of_another_checkpoint_are_not_taken_for_its_own(tmp_path) -> None:
    """Whole files, but not those that were saved together: only the checksum can tell."""
    fill(tmp_path, [0.4, 0.9])
    shutil.rmtree(tmp_path / "checkpoints/2/variables")
    shutil.copytree(tmp_path / "checkpoints/1/variables", tmp_path / "checkpoints/2/variables")
    with Checkpoints.open(tmp_path) as checkpoints, pytest.raises(DamagedError, match="its variables are not what was"):
        checkpoints.restore_variables(2, state_at(0).variables(), SHARDING)


def test_without_any_whole_checkpoint_the_epochs_are_not_begun_again(tmp_path) -> None:
    with Checkpoints.open(tmp_path) as checkpoints:
        start = state_at(0)
        assert restore_newest(tmp_path, checkpoints, start, SHARDING) == (start, None)
        runs.write_metrics(tmp_path, [{"epoch": i, "step": 3 * i} for i in (1, 2, 3)])
        with pytest.raises(runs.RunError, match="the metrics of 3 epochs and no whole checkpoint"):
            restore_newest(tmp_path, checkpoints, start, SHARDING)


def test_metrics_that_were_lost_come_from_the_checkpoint(tmp_path) -> None:
    fill(tmp_path, [0.4, 0.9])
    rows = [{"epoch": i, "step": i, "validation_loss": x} for i, x in ((1, 0.4), (2, 0.9), (3, 0.1))]
    runs.write_metrics(tmp_path, rows[1:])
    with Checkpoints.open(tmp_path) as checkpoints:
        first, second = recovered_rows(tmp_path, checkpoints, 2, 1)  # the third has no checkpoint
    assert second == rows[1]
    assert {name: first[name] for name in ("epoch", "step", "validation_loss", "validation_accuracy")} == {
        "epoch": 1,
        "step": 1,
        "validation_loss": 0.4,
        "validation_accuracy": 0.5,
    }


def test_a_removed_record_is_rebuilt_and_still_refuses_another_seed(run, tiny_config, capsys) -> None:
    workdir = run[0]
    before = runs.read_record(workdir)
    (workdir / runs.RECORD).unlink()
    tiny_config.seed = 1
    with pytest.raises(runs.RunError, match=r"config\.seed: the work directory has 0, this command 1"):
        loop.train(tiny_config, workdir)
    assert "rebuilt from the checkpoint" in capsys.readouterr().err
    after = runs.read_record(workdir)
    assert set(runs.DIGESTS) <= set(after)
    assert json.dumps(after, sort_keys=True) == json.dumps({name: before[name] for name in after}, sort_keys=True)
    rebuild_record(workdir)  # one that is there is left alone
    assert runs.read_record(workdir) == after


def test_a_start_that_fails_leaves_the_work_directory_free(tiny_config, tmp_path) -> None:
    tiny_config.model.backbone.name = "resnet50"  # whose weights are not given
    with pytest.raises(Exception, match="weights"):
        loop.train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run" / runs.RECORD).exists()
