"""Progress on standard error: a bar with the time left on a terminal, plain lines elsewhere.

Lines go through the standard logger `cervix_jax` at level INFO. Hosts other than the lead host raise its level, so that
a run on many hosts prints each line once.
"""

import functools
import logging
import sys
import time

_LINE_SECONDS = 30.0  # between plain lines within an epoch


class _StderrHandler(logging.Handler):
    """Prints to what `sys.stderr` is at the time of the message, as `print` does."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


_logger = logging.getLogger("cervix_jax")
_logger.setLevel(logging.INFO)
_logger.propagate = False  # absl's handler of the root logger would print each line again
_logger.addHandler(_StderrHandler())


def log(message: str) -> None:
    """Prints one line on standard error; standard output is kept for results."""
    _logger.info("%s", message)


@functools.cache
def log_once(message: str) -> None:
    """Likewise, the first time that this process says so."""
    log(message)


def silence() -> None:
    """Logs errors only from now on: this process is not the lead host."""
    _logger.setLevel(logging.ERROR)


def is_silenced() -> bool:
    """Whether another process logs for this one."""
    return not _logger.isEnabledFor(logging.INFO)


class Progress:
    """Steps done of an epoch."""

    def __init__(self, epoch: int, epochs: int, steps: int, done: int):
        from tqdm import tqdm  # here, so that `--help` of a program does not wait for it

        self._label = f"epoch {epoch}/{epochs}"
        self._steps, self._done = steps, done
        terminal = sys.stderr.isatty() and not is_silenced()
        self._bar = tqdm(total=steps, initial=done, desc=self._label, unit="step", leave=False) if terminal else None
        self._last_line = time.monotonic()

    def update(self) -> None:
        """Counts one more step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            log(f"{self._label}: step {self._done}/{self._steps}")

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
