"""Measures how fast the software is on this machine, each figure beside a limit that is measured in the same run.

python -m cervix_jax.benchmark --config=configs/report.py --what=step

step: the training step, against the devices' matmul. predict: images to logits, against the same. input: the pipeline
feeding the step, against the step alone. prepare: camera photographs, against decoding them. startup: a program's help
and the first training step, against a bare Python and the import of JAX.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app

CONFIG = app.config_flag()
WHAT = flags.DEFINE_enum(
    "what", None, ["step", "input", "prepare", "predict", "startup"], "What to measure.", required=True
)
REPEATS = flags.DEFINE_integer("repeats", 10, "Measurements of each; starts of training: at most 3.", lower_bound=1)
IMAGES = flags.DEFINE_string("images", None, "Folder of photographs for 'prepare'; without it some are drawn.")


def main() -> dict[str, Any]:
    from cervix_jax import config as options

    config, repeats = options.validate(CONFIG.value), REPEATS.value
    if WHAT.value == "prepare":
        from cervix_jax.benchmarks import preparation

        return preparation.prepare(repeats, Path(IMAGES.value) if IMAGES.value else None)
    if WHAT.value == "input":
        from cervix_jax.benchmarks import input_pipeline

        return input_pipeline.feed(config, repeats)
    if WHAT.value == "startup":
        from cervix_jax.benchmarks import startup

        help_command = [sys.executable, "-m", "cervix_jax.train", "--help"]
        first_step_command = [sys.executable, "-m", "cervix_jax.benchmarks.first_step", *app.given_config_flags()]
        return startup.startup(config, help_command, first_step_command, repeats)
    from cervix_jax.benchmarks import compute

    return {"step": compute.step, "predict": compute.predict}[WHAT.value](config, repeats)


if __name__ == "__main__":
    app.run(main)
