"""All figures of an evaluation, and the learning curves of its runs."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from cervix_jax import runs
from cervix_jax.inference.clinical_metrics import risk_coverage
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.plots import figures
from cervix_jax.training.metrics import confusion_matrix, reliability


def evaluation_figures(
    folder: Path, predictor: Predictor, source: str, cases: LabelledPhotographs, probabilities: Float[np.ndarray, "n k"]
) -> list[Path]:
    """Writes confusion matrix, reliability, risk-coverage, sample predictions and learning curves; returns the paths.

    Args:
      folder: made if missing.
      predictor: that was evaluated.
      source: the split or folder, for the titles.
      cases: the n photographs that it was evaluated on.
      probabilities: its predictions.
    """
    names, labels = predictor.class_names, cases.labels
    title = f"{predictor.name}, {source} ({len(labels)} photographs)"
    paths = {
        name: folder / f"{name}.png" for name in ("confusion_matrix", "reliability", "risk_coverage", "predictions")
    }
    figures.confusion_matrix(confusion_matrix(probabilities, labels), names, title, paths["confusion_matrix"])
    figures.reliability(reliability(probabilities, labels), title, paths["reliability"])
    figures.risk_coverage(risk_coverage(probabilities, labels), title, paths["risk_coverage"])
    images = [photograph.images[0] for photograph in cases.photographs]
    figures.predictions(images, probabilities, labels, names, title, paths["predictions"])
    for i, member in enumerate(predictor.members):
        name = f"learning_curves_{i + 1}" if len(predictor.members) > 1 else "learning_curves"
        paths[name] = folder / f"{name}.png"
        figures.learning_curves(runs.read_metrics(member.workdir), member.workdir.name, paths[name])
    return list(paths.values())
