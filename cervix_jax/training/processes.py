"""Several processes as one run: starting together, speaking with one voice, stopping together.

JAX connects the processes to a coordinator, which lives in process 0. Whatever a program says or writes, process 0
does; the others compute. If a process dies or is cut off, the others end after `watch.TIMEOUT_SECONDS` with a message
that names it; the same command goes on from the last checkpoint. (If process 0 dies, and the coordinator with it, JAX
itself ends the others at once, and speaks of the leader task.)
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

_HEARTBEAT_SECONDS = 3 * TIMEOUT_SECONDS  # of JAX's own watch
_VOTE_SECONDS = 2.0  # between votes on whether to stop

T = TypeVar("T")


class OtherProcessError(UserError):
    """Another process could not do its part; its own message says why."""


def environment_tells(environment: Mapping[str, str]) -> bool:
    """Whether a launcher has started several processes that JAX can find by itself: SLURM, Open MPI, a TPU pod."""
    counts = (environment.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    return any(count.isdecimal() and int(count) > 1 for count in counts) or "," in hosts


def _given(environment: Mapping[str, str]) -> tuple[str | None, int | None, int | None]:
    """Coordinator, number of processes and this one, as `launch/kubernetes.yaml` and `launch/tpu_vm.sh` hand them over.

    Open MPI says itself how many there are; from version 5 on JAX needs the coordinator's address besides.

    Raises:
      UserError: a number is none.
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


@contextmanager
def processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Iterator[None]:
    """Joins the other processes of this run, if there are any, and leaves them at the end.

    Args:
      coordinator: HOST:PORT of process 0; None where the environment tells, or for one process alone.
      num_processes: how many there are.
      process_id: of this one, from 0.

    Raises:
      UserError: some of the three are given, but not all; or the others cannot be reached.
    """
    if coordinator is num_processes is process_id is None:
        coordinator, num_processes, process_id = _given(os.environ)
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --num_processes and --process_id go together, all or none; "
            "so do JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"the coordinator is {coordinator!r}; it must be HOST:PORT")
    if not any(given) and not environment_tells(os.environ):
        yield
        return
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the other processes: {str(error).splitlines()[0]}") from error
    if not is_lead_host():
        progress.mute()
    # Of JAX's public ways to ask about the others, each waits for those that are gone.
    watch = Heartbeat(jax._src.distributed.global_state.client, jax.process_index(), jax.process_count())
    watch.start()
    try:
        yield
    except Interrupted:  # which all agreed on
        _leave(watch)
        raise
    except BaseException as error:
        _leave_at_once(error)
    _leave(watch)


def _leave(watch: Heartbeat) -> None:
    """When all are ready to."""
    watch.leave()
    jax.distributed.shutdown()
    watch.close()


def _leave_at_once(error: BaseException) -> None:
    """Ends this process without waiting for the others, which the ordinary end would."""
    if not isinstance(error, UserError | KeyboardInterrupt):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        message, status = "interrupted", 130
    elif isinstance(error, UserError):
        message, status = f"error: process {jax.process_index()}: {error}", 2
    else:  # perhaps because another is lost: then the watch names it and ends this one
        time.sleep(TIMEOUT_SECONDS + 5)
        message, status = f"error: process {jax.process_index()} failed", 1
    print(message, file=sys.stderr, flush=True)
    os._exit(status)


def is_lead_host() -> bool:
    """Whether this process is the one that speaks and writes."""
    return jax.process_index() == 0


def on_lead_host(do: Callable[[], object]) -> None:
    """Process 0 does something while the others wait.

    Raises:
      OtherProcessError: in the others, if it failed.
    """
    error: BaseException | None = None
    if is_lead_host():
        try:
            do()
        except Exception as caught:
            error = caught
    if jax.process_count() > 1 and not bool(multihost_utils.broadcast_one_to_all(np.array(error is None))):
        raise error or OtherProcessError("process 0 could not go on")
    if error is not None:
        raise error


def lead_host_first(do: Callable[[], T]) -> T:
    """Every process does something, process 0 before the others, who find what it left on disk."""
    found: list[T] = []
    on_lead_host(lambda: found.append(do()))
    return found[0] if found else do()


class StopConsensus:
    """Whether any process was asked to stop: all learn it at the same step.

    A vote is an exchange between processes, so there is one every few seconds, not every step. One process votes alone.
    """

    def __init__(self, asked: Callable[[], bool]):
        self._asked = asked
        self._wait, self._interval, self._last = 1, 1, time.monotonic()

    def __call__(self, *, now: bool = False) -> bool:
        """Called once a step by every process; and with `now` where there is to be a vote in any case."""
        if jax.process_count() == 1:
            return self._asked()
        self._wait -= 1
        if self._wait > 0 and not now:
            return False
        seconds = time.monotonic() - self._last
        votes = multihost_utils.process_allgather(np.array([float(self._asked()), seconds], np.float32))
        asked, slowest = votes.max(axis=0)
        # From what all have heard, so that all take the same.
        steps = max(1, self._interval - self._wait)
        self._interval = int(np.clip(steps * _VOTE_SECONDS / max(float(slowest), 1e-3), 1, 1000))
        self._wait, self._last = self._interval, time.monotonic()
        return bool(asked)


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Sum over processes of whole numbers below 2^31, as int64."""
    if jax.process_count() == 1:
        return values.astype(np.int64)
    return multihost_utils.process_allgather(values.astype(np.int32)).astype(np.int64).sum(axis=0)
