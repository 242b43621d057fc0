"""The figures that belong to an evaluation."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from cervix_jax import runs
from cervix_jax.explainers import figures
from cervix_jax.training.metrics import confusion_matrix


def evaluation_figures(
    folder: Path,
    workdir: Path,
    split: str,
    images: UInt8[np.ndarray, "n h w 3"],
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
) -> list[Path]:
    """Writes learning curves, confusion matrix and sample predictions of a run; returns their paths.

    Args:
      folder: made if missing.
      workdir: of the run.
      split: its name, for the titles.
      images: RGB, of the split.
      probabilities: of its images.
      labels: 0 to k - 1.
    """
    class_names = runs.read_record(workdir)["class_names"]
    title = f"{workdir.name}, {split} ({len(labels)} photographs)"
    paths = [folder / name for name in ("learning_curves.png", "confusion_matrix.png", "predictions.png")]
    figures.learning_curves(runs.read_metrics(workdir), workdir.name, paths[0])
    figures.confusion_matrix(confusion_matrix(probabilities, labels), class_names, title, paths[1])
    figures.predictions(images, probabilities, labels, class_names, title, paths[2])
    return paths
