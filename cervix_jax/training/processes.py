"""Several processes as one run: they start together, one of them logs and writes files, and they stop together.

JAX connects the processes to a coordinator, which lives in process 0, the lead host. The lead host does all that a
program logs and writes; the others only compute. If a process dies or cannot be reached, the others exit after
`heartbeat.TIMEOUT_SECONDS` with a message that names it; rerun the same command to resume from the last checkpoint. (If
process 0 dies, and the coordinator with it, JAX itself ends the others at once, with a message about the leader task.)
"""

import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cervix_jax import progress
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.training.heartbeat import TIMEOUT_SECONDS, Heartbeat

_JAX_HEARTBEAT_SECONDS = 3 * TIMEOUT_SECONDS  # so that ours comes first
_VOTE_SECONDS = 2.0  # between exchanges on whether to stop

T = TypeVar("T")


class OtherProcessError(UserError):
    """Another process failed; its own message says why."""


@contextmanager
def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Iterator[None]:
    """Connects to the other processes of this run, if there are any, and leaves them at the end.

    Args:
      coordinator: HOST:PORT of process 0; None to read all three from the environment, or for a single process.
      num_processes: of this run.
      process_id: of this process, from 0.

    Raises:
      UserError: some of the three are given, but not all; or the others cannot be reached.
    """
    if coordinator is num_processes is process_id is None:
        coordinator, num_processes, process_id = _from_environment(os.environ)
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --num_processes and --process_id go together, all or none; "
            "so do JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"the coordinator is {coordinator!r}; it must be HOST:PORT")
    if not any(given) and not is_started_by_launcher(os.environ):
        yield
        return
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=_JAX_HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the other processes: {str(error).splitlines()[0]}") from error
    if not is_lead_host():
        progress.silence()
    # JAX's public functions that ask about the other processes all wait for those that are gone.
    heartbeat = Heartbeat(jax._src.distributed.global_state.client, jax.process_index(), jax.process_count())
    heartbeat.start()
    try:
        yield
    except Interrupted:  # all processes have agreed to stop
        _leave(heartbeat)
        raise
    except BaseException as error:
        _exit_without_waiting(error)
    _leave(heartbeat)


def is_started_by_launcher(environment: Mapping[str, str]) -> bool:
    """Whether SLURM, Open MPI or a TPU pod has started several processes, which JAX can connect by itself."""
    counts = (environment.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    return any(count.isdecimal() and int(count) > 1 for count in counts) or "," in hosts


def _from_environment(environment: Mapping[str, str]) -> tuple[str | None, int | None, int | None]:
    """Coordinator, number of processes and number of this one, as `launch/kubernetes.yaml` and `tpu_vm.sh` set them.

    Open MPI sets the numbers itself; from version 5 on JAX also needs the coordinator's address.

    Raises:
      UserError: a number is not one.
    """
    coordinator = environment.get("JAX_COORDINATOR_ADDRESS") or None

    def number(name: str) -> int | None:
        text = environment.get(name, "")
        if text and not text.isdecimal():
            raise UserError(f"{name} is {text!r} in the environment; it must be a whole number")
        return int(text) if text else None

    if coordinator is not None and "JAX_NUM_PROCESSES" not in environment and "OMPI_COMM_WORLD_SIZE" in environment:
        return coordinator, number("OMPI_COMM_WORLD_SIZE"), number("OMPI_COMM_WORLD_RANK")
    return coordinator, number("JAX_NUM_PROCESSES"), number("JAX_PROCESS_ID")


def _leave(heartbeat: Heartbeat) -> None:
    """Waits until all processes are ready to leave."""
    heartbeat.leave()
    jax.distributed.shutdown()
    heartbeat.close()


def _exit_without_waiting(error: BaseException) -> None:
    """Ends this process at once; the ordinary exit would wait for the other processes."""
    if not isinstance(error, UserError | KeyboardInterrupt):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        message, status = "interrupted", 130
    elif isinstance(error, UserError):
        message, status = f"error: process {jax.process_index()}: {error}", 2
    else:  # perhaps because another process is lost: then the heartbeat names it and ends this process first
        time.sleep(TIMEOUT_SECONDS + 5)
        message, status = f"error: process {jax.process_index()} failed", 1
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


def is_lead_host() -> bool:
    """Whether this process is the one that logs and writes files."""
    return jax.process_index() == 0


def on_lead_host(action: Callable[[], object]) -> None:
    """Calls `action` in process 0 while the others wait.

    Raises:
      OtherProcessError: in the others, if it failed.
    """
    error: BaseException | None = None
    if is_lead_host():
        try:
            action()
        except Exception as caught:
            error = caught
    if jax.process_count() > 1 and not bool(multihost_utils.broadcast_one_to_all(np.array(error is None))):
        raise error or OtherProcessError("process 0 has failed; its own message says why")
    if error is not None:
        raise error


def lead_host_first(action: Callable[[], T]) -> T:
    """Calls `action` in every process, in process 0 before the others, which find on disk what it wrote."""
    results: list[T] = []
    on_lead_host(lambda: results.append(action()))
    return results[0] if results else action()


class StopConsensus:
    """Whether any process was asked to stop; all processes get the same answer at the same step.

    Asking the others is an all-gather, so it is done every few seconds rather than every step. A single process answers
    for itself.
    """

    def __init__(self, asked_to_stop: Callable[[], bool]):
        self._asked_to_stop = asked_to_stop
        self._steps_left, self._interval, self._last_vote = 1, 1, time.monotonic()

    def __call__(self, *, now: bool = False) -> bool:
        """To be called by every process, once per step.

        Args:
          now: ask the others in any case; the same in every process.
        """
        if jax.process_count() == 1:
            return self._asked_to_stop()
        self._steps_left -= 1
        if self._steps_left > 0 and not now:
            return False
        seconds = time.monotonic() - self._last_vote
        votes = multihost_utils.process_allgather(np.array([float(self._asked_to_stop()), seconds], np.float32))
        stop, slowest = votes.max(axis=0)
        # Computed from values that all processes have, so that all wait for the same number of steps.
        steps = max(1, self._interval - self._steps_left)
        self._interval = int(np.clip(steps * _VOTE_SECONDS / max(float(slowest), 1e-3), 1, 1000))
        self._steps_left, self._last_vote = self._interval, time.monotonic()
        return bool(stop)


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Sum over all processes, int64, of integers whose absolute values are below 2^31."""
    if jax.process_count() == 1:
        return values.astype(np.int64)
    return multihost_utils.process_allgather(values.astype(np.int32)).astype(np.int64).sum(axis=0)
