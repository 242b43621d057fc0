"""Restores the best checkpoint of runs and measures them on a split or on a labelled folder, every photograph once.

python -m cervix_jax.evaluate --workdir=runs/quickstart --split=validation --figures=runs/quickstart/figures
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax import commands, run_flags

SPLIT = flags.DEFINE_string("split", "validation", "Split of the run's data set.")
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Measure on a folder of Type_1, Type_2 and Type_3 instead; photographs that a run has seen are left out.",
)
UNSAFE_RATE = flags.DEFINE_float(
    "unsafe_rate",
    None,
    "Also report errors at the threshold that lets this share of types 2 and 3 be called type 1.",
)
ROBUSTNESS = flags.DEFINE_boolean(
    "robustness", False, "Also report agreement after coding again, small crops, other light."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Raw photographs, if they have moved since training.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared data sets, if it has moved since training.")
FIGURES = flags.DEFINE_string(
    "figures", None, "Folder for confusion matrix, reliability, risk-coverage, learning curves and sample predictions."
)


def main() -> dict[str, Any]:
    from cervix_jax.explainers import reports
    from cervix_jax.inference.cases import folder_cases, split_cases
    from cervix_jax.inference.evaluation import evaluate

    predictor = run_flags.restore()
    if IMAGES.value:
        cases, where = folder_cases(predictor, Path(IMAGES.value)), {"images": IMAGES.value}
    else:
        from cervix_jax.data import pipeline

        data = pipeline.prepared(predictor.data_config, MANUAL_DIR.value, DATA_DIR.value)
        predictor.check_data(data.fingerprint)
        cases, where = split_cases(predictor, data.examples(SPLIT.value), SPLIT.value), {"split": SPLIT.value}
    found, probabilities = evaluate(
        predictor, cases, unsafe_rate=UNSAFE_RATE.value, robust=ROBUSTNESS.value, batch_size=BATCH_SIZE.value
    )
    if FIGURES.value:
        reports.evaluation_figures(Path(FIGURES.value), predictor, IMAGES.value or SPLIT.value, cases, probabilities)
    return found | where | {"epoch": predictor.members[0].record["epoch"]}


if __name__ == "__main__":
    commands.run(main)
