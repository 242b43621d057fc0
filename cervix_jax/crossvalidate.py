"""Trains one run a fold and brings together what each says of the photographs that it has not seen.

Rerun the same command to resume; give folds to different machines with --folds, and bring them together without it.

python -m cervix_jax.crossvalidate --config=configs/quickstart.py --workdir=runs/folds
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, process_flags

CONFIG = app.config_flag()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the cross-validation: a work directory a fold, oof.csv; made if missing.", required=True
)
FOLDS = flags.DEFINE_list("folds", None, "Train these folds alone, such as 0,1; all by default.")
SEEDS = flags.DEFINE_integer(
    "seeds", 1, "Runs a fold, which differ by config.seed and are averaged.", lower_bound=1, upper_bound=100
)


def main() -> dict[str, Any]:
    from cervix_jax.workflows import cross_validation, folds

    config, workdir = CONFIG.value, Path(WORKDIR.value)
    with process_flags.join_processes():
        plan = folds.FoldPlan.of(config, workdir, FOLDS.value, SEEDS.value)
        folds.train_folds(plan)
        return cross_validation.gather(plan)


if __name__ == "__main__":
    app.run(main)
