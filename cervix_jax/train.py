"""Trains a classifier and keeps its latest and best checkpoints; rerun the same command to resume.

python -m cervix_jax.train --config=configs/quickstart.py --workdir=runs/quickstart
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, process_flags

CONFIG = app.config_flag()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: record, metrics and checkpoints; made if missing.", required=True
)


def main() -> dict[str, Any]:
    from cervix_jax.training import loop

    with process_flags.join_processes():
        return loop.train(CONFIG.value, Path(WORKDIR.value))


if __name__ == "__main__":
    app.run(main)
