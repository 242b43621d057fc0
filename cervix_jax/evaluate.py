"""Restores the best checkpoint of a run and measures it on a split, every example once.

python -m cervix_jax.evaluate --workdir=runs/quickstart --split=validation --figures=runs/quickstart/figures
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax import commands

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True, allow_overwrite=False)
SPLIT = flags.DEFINE_string("split", "validation", "Split of the run's data set.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images a step; the run's if not given.", lower_bound=1)
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Raw photographs, if they have moved since training.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared data sets, if it has moved since training.")
FIGURES = flags.DEFINE_string("figures", None, "Folder for confusion matrix, learning curves and sample predictions.")


def main() -> dict[str, Any]:
    from cervix_jax.data import pipeline
    from cervix_jax.explainers import reports
    from cervix_jax.inference.predictor import Predictor
    from cervix_jax.training.metrics import classification_metrics

    workdir = Path(WORKDIR.value)
    predictor = Predictor.restore(workdir)
    examples = pipeline.prepared(predictor.config, MANUAL_DIR.value, DATA_DIR.value).examples(SPLIT.value)
    images = examples.all_images()
    probabilities = predictor.probabilities(images, BATCH_SIZE.value or predictor.config.eval_batch_size)
    scores = classification_metrics(probabilities, examples.labels, predictor.class_names)
    if FIGURES.value:
        reports.evaluation_figures(Path(FIGURES.value), workdir, SPLIT.value, images, probabilities, examples.labels)
    return scores | {"split": SPLIT.value, "epoch": predictor.epoch}


if __name__ == "__main__":
    commands.run(main)
