"""Detects that another process of a run has died or cannot be reached, and ends this one with a message that names it.

Each process writes a growing number into the key-value store of JAX's coordinator, which lives in process 0, and reads
those of the others. JAX has a heartbeat too, but a slower one, and its error message is a dump of stack traces.
"""

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_SECONDS = 20  # without a heartbeat, after which a process counts as lost
LOST_STATUS = 3  # exit status of a process that has lost another
_INTERVAL_SECONDS = 2.0
_DIRECTORY = "cervix_jax/alive"


class Heartbeat:
    """Sends this process's heartbeats and watches those of the others, each in a thread.

    Args:
      client: of JAX's coordinator; `key_value_set` and `key_value_dir_get` are called.
      process_id: of this process.
      process_count: of the run.
      clock: seconds, monotonic.
    """

    def __init__(
        self, client: Any, process_id: int, process_count: int, *, clock: Callable[[], float] = time.monotonic
    ):
        self._client, self._process_id, self._process_count, self._clock = client, process_id, process_count, clock
        self._last_beats = dict.fromkeys(range(process_count), (-1, clock()))  # process: number, when it was new
        self._last_answer = clock()  # of the coordinator
        self._leaving, self._closed = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat_until_closed, self._watch)]

    def start(self) -> None:
        """From now on, the loss of another process ends this one."""
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """The others may exit from now on, so their silence is no loss; heartbeats are still sent."""
        self._leaving.set()

    def close(self) -> None:
        """Stops the threads; to be called when all processes have left.

        A thread that is inside the client while Python exits would abort the process.
        """
        self._closed.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def beat(self, number: int) -> None:
        """Sends one heartbeat and receives those of the others.

        Args:
          number: greater than that of the heartbeat before.
        """
        with contextlib.suppress(Exception):  # of a coordinator that does not answer: `silent` looks at its last answer
            self._client.key_value_set(f"{_DIRECTORY}/{self._process_id}", str(number), allow_overwrite=True)
            beats = self._client.key_value_dir_get(_DIRECTORY)
            self._last_answer = self._clock()
            for key, value in beats:
                process = int(key.rsplit("/", 1)[-1])
                if int(value) != self._last_beats[process][0]:
                    self._last_beats[process] = (int(value), self._clock())

    def silent(self) -> list[int]:
        """Other processes without a heartbeat for TIMEOUT_SECONDS.

        Process 0 alone if the coordinator in it does not answer, since then nothing is received from the others either.
        """
        now = self._clock()
        if self._process_id != 0 and now - self._last_answer > TIMEOUT_SECONDS:
            return [0]
        others = self._last_beats.keys() - {0, self._process_id}
        return sorted(i for i in others if now - self._last_beats[i][1] > TIMEOUT_SECONDS)

    def _beat_until_closed(self) -> None:
        for number in itertools.count():
            self.beat(number)
            if self._closed.wait(_INTERVAL_SECONDS):
                return

    def _watch(self) -> None:
        while not self._leaving.wait(1.0):
            if silent := self.silent():
                names = ", ".join(map(str, silent))
                message = f"error: lost process {names} of {self._process_count}; rerun the same command to resume"
                print(message, file=sys.stderr, flush=True)
                os._exit(LOST_STATUS)
