"""Progress on standard error: a bar with the time left on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm

LINE_SECONDS = 30.0  # between plain lines within an epoch
_muted: list[bool] = []


class Progress:
    """Tells how far an epoch is."""

    def __init__(self, epoch: int, epochs: int, steps: int, done: int):
        self._label = f"epoch {epoch}/{epochs}"
        self._steps, self._done = steps, done
        terminal = sys.stderr.isatty() and not _muted
        self._bar = tqdm(total=steps, initial=done, desc=self._label, unit="step", leave=False) if terminal else None
        self._last = time.monotonic()

    def update(self) -> None:
        """One step more."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif time.monotonic() - self._last > LINE_SECONDS:
            self._last = time.monotonic()
            log(f"{self._label}: step {self._done}/{self._steps}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def log(message: str) -> None:
    """One line on standard error; standard output is kept for results."""
    if not _muted:
        print(message, file=sys.stderr, flush=True)


def is_muted() -> bool:
    """Whether another process speaks for this one."""
    return bool(_muted)


def mute() -> None:
    """Says nothing from now on: of several processes one speaks."""
    _muted.append(True)
