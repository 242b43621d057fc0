"""How long a user waits: for the help of a program, and for the first training step."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import ml_collections

from cervix_jax.benchmarks import timing
from cervix_jax.benchmarks.compute import device_name
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.errors import UserError
from cervix_jax.training import loop

AT_MOST = 3  # times that training is started: each takes as long as a user waits
FIRST_STEP = "first step done"
_BARE = "import jax; jax.numpy.zeros(3).block_until_ready()"


class StartError(UserError):
    """A program that was to be timed failed; the message is its own."""


def startup(
    config: ml_collections.ConfigDict, help_command: Sequence[str], first_step_command: Sequence[str], repeats: int
) -> dict[str, Any]:
    """Seconds from the start of programs until they have done what a user waits for.

    The data set is prepared before, and that is not counted. This process opens no device before the programs are
    done, since it may be one that only one process can hold.

    Args:
      config: of the run.
      help_command: shows a program's help.
      first_step_command: trains until `until_first_step` says that a step is done.
      repeats: starts of each; of training at most AT_MOST.
    """
    load_dataset(config)
    starts = min(repeats, AT_MOST)
    first, again = [], []
    for _ in range(starts):
        with tempfile.TemporaryDirectory() as kept:
            first.append(_until_line(first_step_command, FIRST_STEP, kept))
            again.append(_until_line(first_step_command, FIRST_STEP, kept))
    helped = timing.summary([_whole(help_command) for _ in range(repeats)])
    python = timing.summary([_whole([sys.executable, "-c", ""]) for _ in range(repeats)])
    bare = timing.summary([_whole([sys.executable, "-c", _BARE]) for _ in range(starts)])
    second = timing.summary(again)
    return {
        "what": "startup",
        "device": device_name(),
        "help_seconds": helped,
        "first_step_seconds": {"nothing_compiled_before": timing.summary(first), "second_time": second},
        "limit": {
            "what": "help: a bare Python; first step: a Python that imports JAX and fills one array",
            "help_seconds": python,
            "first_step_seconds": bare,
        },
        "help_fraction_of_limit": python["median"] / helped["median"],
        "fraction_of_limit": bare["median"] / second["median"],
    }


def until_first_step(config: ml_collections.ConfigDict) -> None:
    """Trains as the program does, in a temporary work directory, says when the first step is done, and ends there.

    A backbone without a file of weights starts from random ones.
    """
    if config.model.backbone.name != "none" and config.model.backbone.weights is None:
        config.model.backbone.allow_random = True
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop, "Progress", _Ends):
        try:
            loop.train(config, Path(folder) / "run")
        except _FirstStepDone:
            return


class _FirstStepDone(Exception):  # noqa: N818 (it is no error)
    pass


class _Ends(loop.Progress):
    """In place of a run's progress, which is updated once a step is done."""

    def update(self) -> None:
        print(FIRST_STEP, flush=True)
        raise _FirstStepDone


def _whole(command: Sequence[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode not in (0, 1):  # absl's --help ends with 1
        raise StartError(done.stderr.strip())
    return time.perf_counter() - start


def _until_line(command: Sequence[str], line: str, compiled: str) -> float:
    """Seconds until a program prints a line.

    Args:
      command: the program.
      line: what to wait for on its standard output.
      compiled: folder where it keeps compiled programs.
    """
    start, seconds = time.perf_counter(), None
    environment = _environment() | {"JAX_COMPILATION_CACHE_DIR": compiled}
    with tempfile.TemporaryFile("w+") as errors:
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": errors, "text": True}
        with subprocess.Popen(command, env=environment, **options) as process:
            assert process.stdout is not None  # it is a pipe
            for printed in process.stdout:
                if printed.strip() == line and seconds is None:
                    seconds = time.perf_counter() - start
        errors.seek(0)
        if seconds is None:
            raise StartError(errors.read().strip())
    return seconds


def _environment() -> dict[str, str]:
    """Without what this program has set for itself, so that others do again all that they do at a start."""
    return {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
