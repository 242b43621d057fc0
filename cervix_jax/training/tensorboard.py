"""TensorBoard event files beside `metrics.jsonl`, if the package tensorboardX is installed."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path


class TensorBoard:
    """Writes the scalars of every epoch to `workdir`/tensorboard; nothing without a folder or without tensorboardX."""

    def __init__(self, workdir: Path | None):
        self._writer = None
        if workdir is not None and importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Writes a row of `metrics.jsonl` at its step, without the values that are None."""
        if self._writer is not None:
            for name, value in row.items():
                if value is not None:
                    self._writer.add_scalar(name, value, row["step"])
            self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
