"""One thread that runs the model, and what waits for it: photographs of many requests become one batch.

A photograph that comes alone waits a few milliseconds for company; those that wait while the model is busy go together.
What waits is bounded: beyond it, callers are told to come back, and when.
"""

import collections
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

WAIT_SECONDS = 0.003  # that a photograph waits for others
_SMOOTHING = 0.1  # weight of the newest in the moving average of seconds a job


class BusyError(Exception):
    """Too much is waiting.

    Attributes:
      retry_after: whole seconds after which half of what waits is likely done.
    """

    def __init__(self, retry_after: int):
        super().__init__(f"too many photographs are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class ModelThread:
    """Calls a function of batches, and others one at a time, all from one thread.

    Answers are futures. One that is cancelled before its turn is not computed.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[bytes]], Sequence[Any]],
        *,
        batch_size: int,
        max_waiting: int,
        wait_seconds: float = WAIT_SECONDS,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ):
        """Starts the thread.

        Args:
          predict: files to answers, in order.
          batch_size: most files a call.
          max_waiting: most jobs that wait.
          wait_seconds: that a file waits for others, before a batch that is not full is run.
          on_batch: told the size and the seconds of each call.
        """
        self._predict, self._on_batch = predict, on_batch
        self._batch_size, self._max_waiting, self._wait_seconds = batch_size, max_waiting, wait_seconds
        self._jobs: collections.deque[tuple[bytes | Callable[[], Any], Future[Any]]] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 0.05  # a job
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return len(self._jobs)

    def submit(self, files: Sequence[bytes]) -> list[Future[Any]]:
        """Has files predicted, in batches with those of others; all of them are taken, or none.

        Raises:
          BusyError: too much is waiting.
        """
        return self._add(files)

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Has a function called, when it is its turn.

        Raises:
          BusyError: too much is waiting.
        """
        return self._add([function])[0]

    def close(self) -> None:
        """Ends the thread after what is running; what waits is cancelled."""
        with self._changed:
            self._closed = True
            while self._jobs:
                self._jobs.popleft()[1].cancel()
            self._changed.notify()
        self._thread.join()

    def _add(self, works: Sequence[bytes | Callable[[], Any]]) -> list[Future[Any]]:
        with self._changed:
            if self._closed or len(self._jobs) + len(works) > self._max_waiting:
                raise BusyError(math.ceil(max(1.0, self._seconds * len(self._jobs) / 2)))
            jobs: list[tuple[bytes | Callable[[], Any], Future[Any]]] = [(work, Future()) for work in works]
            self._jobs += jobs
            self._changed.notify()
        futures = [future for _, future in jobs]
        for future in futures:
            future.add_done_callback(self._forget_cancelled)
        return futures

    def _forget_cancelled(self, future: Future[Any]) -> None:
        """Frees the place and the bytes of a job whose client has gone, though the model still works on others."""
        if future.cancelled():
            with self._changed:
                self._jobs = collections.deque(job for job in self._jobs if job[1] is not future)

    def _run(self) -> None:
        while batch := self._next_batch():
            began = time.monotonic()
            works, futures = zip(*batch, strict=True)
            try:
                answers = [works[0]()] if callable(works[0]) else self._predict(works)
            except Exception as error:  # it is the caller's, and the next job may succeed
                for future in futures:
                    future.set_exception(error)
            else:
                for future, answer in zip(futures, answers, strict=True):
                    future.set_result(answer)
            seconds = time.monotonic() - began
            self._seconds += _SMOOTHING * (seconds / len(batch) - self._seconds)
            if not callable(works[0]):
                self._on_batch(len(batch), seconds)
            del batch, works, futures  # or the last photographs would stay in memory until the next come

    def _next_batch(self) -> list[tuple[Any, Future[Any]]]:
        """Waits for jobs: one function, or files up to the next function or a full batch; none when closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return []
                deadline = time.monotonic() + self._wait_seconds
                while (
                    not self._closed
                    and self._num_files() == len(self._jobs) < self._batch_size
                    and (left := deadline - time.monotonic()) > 0
                ):
                    self._changed.wait(left)
                count = min(self._batch_size, self._num_files()) or 1
                taken = [self._jobs.popleft() for _ in range(min(count, len(self._jobs)))]
                if batch := [job for job in taken if job[1].set_running_or_notify_cancel()]:
                    return batch

    def _num_files(self) -> int:
        """Number of files before the first function."""
        return next((i for i, (work, _) in enumerate(self._jobs) if callable(work)), len(self._jobs))
