"""Notices that another process of a run is gone or cut off, and ends this one with a message that names it.

Each process writes a growing number into the key-value store of JAX's coordinator, which lives in process 0, and reads
those of the others. JAX watches too, but more slowly, and what it says then is a dump of stacks.
"""

import contextlib
import itertools
import os
import sys
import threading
import time
from typing import Any

TIMEOUT_SECONDS = 20  # without a sign of life
LOST = 3  # status of a process that has lost another
_BEAT_SECONDS = 2.0
_FOLDER = "cervix_jax/alive"


class Heartbeat:
    """Signs of life to the other processes and from them, in threads of their own.

    Args:
      client: of JAX's coordinator.
      process_id: this one.
      count: of processes.
    """

    def __init__(self, client: Any, process_id: int, count: int):
        self._client, self._me, self._count = client, process_id, count
        self._heard = dict.fromkeys(range(count), (-1, time.monotonic()))  # last number, and when it was new
        self._answered = time.monotonic()  # by process 0
        self._leaving, self._over = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._exchange, self._look)]

    def start(self) -> None:
        """From here on the loss of another process ends this one."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """The others may end now, so silence is no loss any more; this one still gives signs of life."""
        self._leaving.set()

    def close(self) -> None:
        """After all have left. No thread may be inside the client while Python ends: that would abort the process."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def silent(self) -> list[int]:
        """Other processes without a sign of life; 0 alone if it does not answer, since nothing is heard without it."""
        now = time.monotonic()
        if self._me != 0 and now - self._answered > TIMEOUT_SECONDS:
            return [0]
        return [i for i, (_, when) in self._heard.items() if i not in (0, self._me) and now - when > TIMEOUT_SECONDS]

    def _exchange(self) -> None:
        for number in itertools.count():
            with contextlib.suppress(Exception):  # the coordinator does not answer; if it has gone, its silence tells
                self._client.key_value_set(f"{_FOLDER}/{self._me}", str(number), allow_overwrite=True)
                found = self._client.key_value_dir_get(_FOLDER)
                self._answered = time.monotonic()
                for key, value in found:
                    self._hear(int(key.rsplit("/", 1)[-1]), int(value))
            if self._over.wait(_BEAT_SECONDS):
                return

    def _hear(self, process: int, number: int) -> None:
        if number != self._heard[process][0]:
            self._heard[process] = (number, time.monotonic())

    def _look(self) -> None:
        while not self._leaving.wait(1.0):
            if silent := self.silent():
                names = ", ".join(map(str, silent))
                print(
                    f"error: lost process {names} of {self._count}; the same command goes on from the checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(LOST)
