"""Flags of programs that may run as several processes, where no launcher tells them of each other."""

from __future__ import annotations

from contextlib import AbstractContextManager

from absl import flags

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where the environment does not tell.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of this run.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process, from 0.", lower_bound=0)


def processes() -> AbstractContextManager[None]:
    """Joins the other processes of this run, if there are any; before any device is used."""
    from cervix_jax.training import processes

    return processes.processes(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
