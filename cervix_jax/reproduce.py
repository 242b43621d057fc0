"""Trains the variants behind one table of the report and prints published beside measured; rerun it to resume.

python -m cervix_jax.reproduce --experiment=cropping --workdir=runs/reproduce \
  --config.dataset.manual_dir=DIR --config.model.backbone.weights=imagenet

--list names the experiments and how long they take; --quick does one with small networks on synthetic photographs;
--table without --experiment writes RESULTS.md of all, from what is kept of their runs.
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
LIST = flags.DEFINE_boolean("list", False, "List the experiments, their systems and an estimate of their time.")
QUICK = flags.DEFINE_boolean("quick", False, "Small networks on synthetic photographs, to see that everything works.")
TABLE = flags.DEFINE_boolean(
    "table",
    False,
    "Write the table, or RESULTS.md of all, from WORKDIR/results/report_tables, without running anything.",
)
SIZE = flags.DEFINE_list("size", None, "Height and width in pixels; --config.dataset.image_size.")
EPOCHS = flags.DEFINE_integer("epochs", None, "Epochs of every run but the overfitted network's.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 1, "How many times each system is trained on each fold.", lower_bound=1)
FOLDS = flags.DEFINE_list("folds", None, "Folds to hold out in turn; all of them by default, with --quick one.")
LOCALISER = flags.DEFINE_string(
    "localiser", None, "Also train each system on the cervix, as --config.dataset.crop=LOCALISER would."
)
INCEPTION_WEIGHTS = flags.DEFINE_string(
    "inception_weights", None, "Weights of Inception-v3; --config.model.backbone.weights are ResNet-50's."
)
ALLOW_RANDOM_BACKBONE = flags.DEFINE_boolean(
    "allow_random_backbone", False, "Start backbones without weights from random ones; the table marks them."
)
IMAGES = flags.DEFINE_integer("images", 1276, "Training photographs, for --list.", lower_bound=1)
SPEED = flags.DEFINE_float(
    "images_per_second",
    50.0,
    "Training speed of the report's system at 320 x 240, for --list; benchmark --what=step measures it.",
    lower_bound=0.001,
)


def main() -> dict[str, Any]:
    from cervix_jax.errors import UserError
    from cervix_jax.experiments import experiment, time_estimates
    from cervix_jax.experiments.runner import Settings

    scale: dict[str, Any] = {}
    if SIZE.value:
        if len(SIZE.value) != 2 or not all(side.isdecimal() for side in SIZE.value):
            raise UserError(f"--size is {','.join(SIZE.value)}; it must be HEIGHT,WIDTH in pixels")
        scale["dataset.image_size"] = tuple(map(int, SIZE.value))
    if EPOCHS.value:
        scale["epochs"] = EPOCHS.value
    settings = Settings(
        CONFIG.value, QUICK.value, scale, INCEPTION_WEIGHTS.value, ALLOW_RANDOM_BACKBONE.value, LOCALISER.value
    )
    number = CONFIG.value.selection.folds
    chosen = FOLDS.value or ([str(number - 1)] if QUICK.value else [str(fold) for fold in range(number)])
    if wrong := [fold for fold in chosen if not (fold.isdecimal() and int(fold) < number)]:
        raise UserError(f"--folds has {wrong[0]!r}; there are 0 to {number - 1}")
    folds = sorted(set(map(int, chosen)))
    if LIST.value:
        config = settings.resolve(variants.VARIANTS["report"], seed=0)
        repetitions = SEEDS.value * len(folds)
        forecast = time_estimates.forecast(
            config, repetitions, IMAGES.value, SPEED.value, cropped=LOCALISER.value is not None
        )
        time_estimates.log_forecast(forecast)
        return {"experiments": forecast}
    if WORKDIR.value and TABLE.value and not EXPERIMENT.value:
        return experiment.write_results_page(Path(WORKDIR.value))
    if not EXPERIMENT.value or not WORKDIR.value:
        raise UserError("--experiment and --workdir are needed; --list names the experiments")
    workdir = Path(WORKDIR.value)
    if TABLE.value:
        return experiment.write_table(EXPERIMENT.value, workdir)
    return experiment.run_experiment(EXPERIMENT.value, workdir, settings, SEEDS.value, folds)


if __name__ == "__main__":
    app.run(main)
