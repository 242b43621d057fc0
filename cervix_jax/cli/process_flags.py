"""Flags of the programs that can run as several processes, for where no launcher sets them in the environment."""

from __future__ import annotations

from contextlib import AbstractContextManager

from absl import flags

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, if the environment does not name it.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of this run.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)


def join_processes() -> AbstractContextManager[None]:
    """Connects to the other processes of this run, if there are any; to be entered before any device is used."""
    from cervix_jax.training import processes

    return processes.join_processes(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
