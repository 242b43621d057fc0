"""How long a user waits: for the help of a program, and for the first training step."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import ml_collections

from cervix_jax.benchmarks import timing
from cervix_jax.benchmarks.compute import device_name
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.errors import UserError

_MAX_TRAINING_STARTS = 3  # each takes as long as a user waits
_IMPORT_JAX = "import jax; jax.numpy.zeros(3).block_until_ready()"


class StartError(UserError):
    """A program that was to be timed failed; the message is its own."""


def startup(
    config: ml_collections.ConfigDict, help_command: Sequence[str], first_step_command: Sequence[str], repeats: int
) -> dict[str, Any]:
    """Seconds from the start of a program until it has done what a user waits for.

    The data set is prepared before, which is not counted. This process opens no device before the programs are done,
    since some devices can be held by one process only.

    Args:
      config: of the run.
      help_command: prints a program's help.
      first_step_command: prints a line when its first training step is done.
      repeats: starts of each; at most 3 of training.
    """
    load_dataset(config)
    starts = min(repeats, _MAX_TRAINING_STARTS)
    cold, warm = [], []
    for _ in range(starts):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds_to_first_line(first_step_command, cache))
            warm.append(seconds_to_first_line(first_step_command, cache))
    helped = timing.summary([seconds_to_exit(help_command) for _ in range(repeats)])
    python = timing.summary([seconds_to_exit([sys.executable, "-c", ""]) for _ in range(repeats)])
    imported = timing.summary([seconds_to_exit([sys.executable, "-c", _IMPORT_JAX]) for _ in range(starts)])
    second_time = timing.summary(warm)
    return {
        "what": "startup",
        "device": device_name(),
        "help_seconds": helped,
        "first_step_seconds": {"nothing_compiled_before": timing.summary(cold), "second_time": second_time},
        "limit": {
            "what": "help: a bare Python; first step: a Python that imports JAX and fills one array",
            "help_seconds": python,
            "first_step_seconds": imported,
        },
        "help_fraction_of_limit": python["median"] / helped["median"],
        "fraction_of_limit": imported["median"] / second_time["median"],
    }


def seconds_to_exit(command: Sequence[str]) -> float:
    """Duration of a program that prints its help, or exits with status 0.

    Raises:
      StartError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode not in (0, 1):  # absl's --help exits with 1
        raise StartError(done.stderr.strip())
    return time.perf_counter() - start


def seconds_to_first_line(command: Sequence[str], compilation_cache: str) -> float:
    """Time until a program prints the first line on standard output.

    Args:
      command: the program; it is waited for.
      compilation_cache: folder where it keeps compiled programs.

    Raises:
      StartError: it exited without printing a line.
    """
    start = time.perf_counter()
    environment = _environment() | {"JAX_COMPILATION_CACHE_DIR": compilation_cache}
    with tempfile.TemporaryFile("w+") as errors:
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": errors, "text": True}
        with subprocess.Popen(command, env=environment, **options) as process:
            assert process.stdout is not None  # it is a pipe
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
            process.communicate()
        if not line:
            errors.seek(0)
            raise StartError(errors.read().strip())
    return seconds


def _environment() -> dict[str, str]:
    """Without what this program has set for itself, so that the others do all that they do at a start."""
    return {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
