"""Processes on this machine: a run has the same metrics whatever their number, and ends cleanly if one is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cervix_jax import runs
from cervix_jax.errors import UserError
from cervix_jax.inference.predictor import Predictor
from cervix_jax.training import loop
from cervix_jax.training.heartbeat import LOST_STATUS, TIMEOUT_SECONDS
from cervix_jax.training.processes import is_started_by_launcher, join_processes

ROOT = Path(__file__).parents[2]
CONFIG = {
    "epochs": 4,
    "batch_size": 12,
    "eval_batch_size": 5,
    "dataset.name": "cervix/initial",
    "dataset.image_size": "(32,24)",
    "model.backbone.name": "none",
    "model.widths": "(4,)",
    "model.blocks": "(1,)",
}


@pytest.fixture
def flags(manual_dir, data_dir):
    places = {"dataset.manual_dir": manual_dir, "dataset.data_dir": data_dir}
    return ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in (CONFIG | places).items())]


def start(count, program, *arguments):
    """Processes of one run, as `launch/local.sh` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"] if count > 1 else []
    return [
        subprocess.Popen(
            [sys.executable, "-m", f"cervix_jax.{program}", *map(str, arguments), *together]
            + ([f"--process_id={i}"] if count > 1 else []),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(count)
    ]


def finish(started):
    """Statuses, standard outputs and errors of all."""
    texts = [process.communicate(timeout=300) for process in started]
    outputs = [[line for line in out.splitlines() if not line.startswith("[Gloo]")] for out, _ in texts]
    return [p.returncode for p in started], outputs, [err for _, err in texts]


def wait_for(process, text):
    for line in process.stderr:
        if line.startswith(text):
            return
    raise AssertionError(f"{text!r} was never printed")


def curve(workdir):
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    return [[row[name] for name in names] for row in runs.read_metrics(workdir)]


def test_any_number_of_processes_is_one_run(flags, localiser_run, tiny_config, tmp_path) -> None:
    """One process, against two that are asked to stop in the middle and three that resume; on a localiser's crops."""
    flags = [*flags, f"--config.dataset.crop={localiser_run}"]
    tiny_config.update(epochs=4, batch_size=12)
    tiny_config.dataset.crop = str(localiser_run)
    tiny_config.model.update(widths=(4,), blocks=(1,))
    loop.train(tiny_config, tmp_path / "one")
    several = tmp_path / "several"
    started = start(2, "train", *flags, f"--workdir={several}")
    wait_for(started[0], "epoch 1/")
    started[1].send_signal(signal.SIGTERM)  # only one is asked, and both save
    statuses, outs, errors = finish(started)
    assert statuses == [130, 130], errors
    assert outs == [[], []]
    assert "saved; rerun the same command to resume" in errors[0]
    before = len(curve(several))
    assert 1 <= before < 4
    statuses, outs, errors = finish(start(3, "train", *flags, f"--workdir={several}"))
    assert statuses == [0, 0, 0], errors
    assert outs[1:] == [[], []]  # one prints the result
    assert json.loads(outs[0][-1])["epochs"] == 4
    assert "resuming" in errors[0]
    for one, other in zip(curve(tmp_path / "one"), curve(several), strict=True):
        assert other == pytest.approx(one, rel=2e-3, abs=2e-3)

    # Evaluation counts each of the 12 once: in the last batch process 0 has two rows of five, process 1 has none.
    predictor = Predictor.restore([several])
    statuses, outs, errors = finish(start(2, "evaluate", f"--workdir={several}", "--batch_size=10"))
    assert statuses == [0, 0], errors
    metrics = json.loads(outs[0][-1])
    assert metrics["num_examples"] == 12
    assert metrics["loss"] == pytest.approx(predictor.members[0].validation_loss, abs=1e-5)
    assert outs[1] == []


@pytest.mark.reliability
def test_a_lost_process_is_named_and_the_same_command_resumes(flags, tmp_path) -> None:
    flags = [*flags, "--config.epochs=40"]
    started = start(2, "train", *flags, f"--workdir={tmp_path}")
    wait_for(started[0], "epoch 2/")
    started[1].kill()
    statuses, _, errors = finish(started)
    assert statuses[1] == -signal.SIGKILL
    assert statuses[0] == LOST_STATUS, errors[0]
    assert "error: lost process 1 of 2; rerun the same command to resume" in errors[0]
    done = len(curve(tmp_path))
    assert 2 <= done < 40
    (status,), _, (error,) = finish(start(1, "train", *flags, f"--config.epochs={done + 1}", f"--workdir={tmp_path}"))
    assert status == 0, error
    assert "resuming" in error
    assert len(curve(tmp_path)) == done + 1


@pytest.mark.reliability
@pytest.mark.parametrize(("which", "how"), [(0, signal.SIGKILL), (0, signal.SIGSTOP), (1, signal.SIGSTOP)])
def test_the_others_end_when_one_is_cut_off(flags, tmp_path, which: int, how: signal.Signals) -> None:
    """Process 0, which coordinates, dies; or one stands still, as behind a broken network."""
    started = start(2, "train", *flags, "--config.epochs=500", f"--workdir={tmp_path}")
    wait_for(started[0], "epoch 2/")
    began = time.monotonic()
    started[which].send_signal(how)
    other = started[1 - which]
    _, error = other.communicate(timeout=3 * TIMEOUT_SECONDS)
    assert time.monotonic() - began < 2 * TIMEOUT_SECONDS
    started[which].kill()
    started[which].communicate()
    if how == signal.SIGKILL:  # JAX ends the others before anybody else can
        assert other.returncode == -signal.SIGABRT
        assert "leader task" in error
    else:
        assert other.returncode == LOST_STATUS, error
        assert f"error: lost process {which} of 2; rerun the same command to resume" in error
    done = len(curve(tmp_path))
    (status,), _, (error,) = finish(start(1, "train", *flags, f"--config.epochs={done + 1}", f"--workdir={tmp_path}"))
    assert status == 0, error


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"TPU_WORKER_HOSTNAMES": "host"}, False),
        ({"TPU_WORKER_HOSTNAMES": "host-0,host-1"}, True),
        ({"TPU_PROCESS_ADDRESSES": "host-0:8476,host-1:8476"}, True),
    ],
)
def test_launchers_that_start_several_processes_are_recognised(environment, several: bool) -> None:
    assert is_started_by_launcher(environment) is several


def test_flags_must_be_complete() -> None:
    with pytest.raises(UserError, match="all or none"), join_processes("host:1", None, 0):
        raise AssertionError


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "host:1"}, "all or none"),
        ({"JAX_COORDINATOR_ADDRESS": "host:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "'two'"),
        ({"JAX_COORDINATOR_ADDRESS": "host", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "HOST:PORT"),
        ({"JAX_COORDINATOR_ADDRESS": "host", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "HOST:PORT"),
    ],
)
def test_the_environment_must_be_complete(environment, message, monkeypatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), join_processes(None, None, None):
        raise AssertionError


def test_local_sh_says_how_it_is_used() -> None:
    script = ROOT / "launch/local.sh"
    assert os.access(script, os.X_OK)
    for arguments in ([], ["two", "train"], ["2"]):
        done = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "usage:" in done.stderr
