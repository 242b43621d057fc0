"""Trains one step and exits; `benchmark --what=startup` starts this to time how long that takes.

python -m cervix_jax.benchmarks.first_step --config=configs/report.py

Everything is done as in `train`, in a temporary work directory; a backbone without a file of weights gets random ones.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from cervix_jax.cli import app

CONFIG = app.config_flag()


class _FirstStepDone(Exception):  # noqa: N818 - not an error
    pass


def main() -> dict[str, Any]:
    from cervix_jax.training import loop

    def stop(step: int) -> None:
        print(f"step {step} is done", flush=True)
        raise _FirstStepDone

    config = CONFIG.value
    if config.model.backbone.name != "none" and config.model.backbone.weights is None:
        config.model.backbone.allow_random = True
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_FirstStepDone):
        loop.train(config, Path(folder) / "run", on_step=stop)
    return {}


if __name__ == "__main__":
    app.run(main)
