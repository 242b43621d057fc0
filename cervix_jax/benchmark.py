"""Measures how fast the software is on this machine, each figure against a limit measured in the same run.

python -m cervix_jax.benchmark --config=configs/report.py --what=step

step: the training step, against the devices' multiplication of matrices. predict: photographs to logits, against the
same. input: the pipeline feeding the step, against the step alone. prepare: camera photographs, against decoding them.
startup: from the command to its help and to the first training step, against a bare Python and JAX.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app

CONFIG = app.config_flag()
_FIRST_STEP = "first_step"  # what `startup` starts: a training program that ends after a step
WHAT = flags.DEFINE_enum(
    "what",
    None,
    ["step", "input", "prepare", "predict", "startup", _FIRST_STEP],
    f"What to measure; {_FIRST_STEP} is what startup starts.",
    required=True,
)
REPEATS = flags.DEFINE_integer(
    "repeats", 10, "Times that each thing is measured (starts of training: 3).", lower_bound=1
)
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
    if WHAT.value in ("startup", _FIRST_STEP):
        from cervix_jax.benchmarks import startup

        if WHAT.value == _FIRST_STEP:
            startup.until_first_step(config)
            return {"what": _FIRST_STEP}
        helping = [sys.executable, "-m", "cervix_jax.train", "--help"]
        stepping = [sys.executable, "-m", "cervix_jax.benchmark", *sys.argv[1:], f"--what={_FIRST_STEP}"]
        return startup.startup(config, helping, stepping, repeats)
    from cervix_jax.benchmarks import compute

    return {"step": compute.step, "predict": compute.predict}[WHAT.value](config, repeats)


if __name__ == "__main__":
    app.run(main)
