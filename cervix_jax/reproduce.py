"""Trains the systems behind one table of the report and prints published beside measured; run again, it goes on.

python -m cervix_jax.reproduce --experiment=cropping --workdir=runs/reproduce \
  --config.dataset.manual_dir=DIR --config.model.backbone.weights=imagenet

--list names the experiments and what they cost; --quick does one in small on drawn photographs.
"""

from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from cervix_jax.cli import app
from cervix_jax.experiments import report_tables, variants

CONFIG = config_flags.DEFINE_config_dict("config", variants.get_config("report"), "Options of all runs.")
EXPERIMENT = flags.DEFINE_enum("experiment", None, list(report_tables.EXPERIMENTS), "Table of the report.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all experiments; they share their runs.")
LIST = flags.DEFINE_boolean("list", False, "Name the experiments, their systems and an estimate of their time.")
QUICK = flags.DEFINE_boolean("quick", False, "In small, on drawn photographs, to see that everything works.")
TABLE = flags.DEFINE_boolean("table", False, "Write the table anew from the work directory, without running anything.")
SIZE = flags.DEFINE_list("size", None, "Height and width in pixels; --config.dataset.image_size.")
EPOCHS = flags.DEFINE_integer("epochs", None, "Epochs of every run; --config.epochs.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 1, "Times that each system is trained.", lower_bound=1)
INCEPTION_WEIGHTS = flags.DEFINE_string(
    "inception_weights", None, "Weights of Inception-v3, as --config.model.backbone.weights are of ResNet-50."
)
ALLOW_RANDOM_BACKBONE = flags.DEFINE_boolean(
    "allow_random_backbone", False, "Start backbones without weights from random ones; the table marks them."
)
IMAGES = flags.DEFINE_integer("images", 1276, "Training photographs, for --list.", lower_bound=1)
SPEED = flags.DEFINE_float(
    "images_per_second",
    24.0,
    "Of the report's system at 320 x 240, for --list; benchmark --what=step measures it.",
    lower_bound=0.001,
)


def main() -> dict[str, Any]:
    from cervix_jax.errors import UserError
    from cervix_jax.experiments import reproduction
    from cervix_jax.experiments.runner import Settings

    scale: dict[str, Any] = {}
    if SIZE.value:
        if len(SIZE.value) != 2 or not all(side.isdecimal() for side in SIZE.value):
            raise UserError(f"--size is {','.join(SIZE.value)}; it must be HEIGHT,WIDTH in pixels")
        scale["dataset.image_size"] = tuple(map(int, SIZE.value))
    if EPOCHS.value:
        scale["epochs"] = EPOCHS.value
    settings = Settings(CONFIG.value, QUICK.value, scale, INCEPTION_WEIGHTS.value, ALLOW_RANDOM_BACKBONE.value)
    if LIST.value:
        found = reproduction.costs(settings, SEEDS.value, IMAGES.value, SPEED.value)
        reproduction.show_costs(found)
        return {"experiments": found}
    if not EXPERIMENT.value or not WORKDIR.value:
        raise UserError("--experiment and --workdir are needed; --list names the experiments")
    workdir = Path(WORKDIR.value)
    if TABLE.value:
        return reproduction.tabulate(EXPERIMENT.value, workdir)
    return reproduction.reproduce(EXPERIMENT.value, workdir, settings, SEEDS.value)


if __name__ == "__main__":
    app.run(main)
