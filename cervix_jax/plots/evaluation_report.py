"""The figures that belong to an evaluation."""

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
    folder: Path, predictor: Predictor, where: str, cases: LabelledPhotographs, probabilities: Float[np.ndarray, "n k"]
) -> list[Path]:
    """Writes the figures of an evaluation and the learning curves of each run; returns their paths.

    Args:
      folder: made if missing.
      predictor: that was evaluated.
      where: the split or folder, for the titles.
      cases: what it was evaluated on.
      probabilities: of them.
    """
    names, labels = predictor.class_names, cases.labels
    title = f"{predictor.name}, {where} ({len(labels)} photographs)"
    paths = {
        name: folder / f"{name}.png" for name in ("confusion_matrix", "reliability", "risk_coverage", "predictions")
    }
    figures.confusion_matrix(confusion_matrix(probabilities, labels), names, title, paths["confusion_matrix"])
    figures.reliability(reliability(probabilities, labels), title, paths["reliability"])
    figures.risk_coverage(risk_coverage(probabilities, labels), title, paths["risk_coverage"])
    images = [photograph.images[0] for photograph in cases.photographs]
    figures.predictions(images, probabilities, labels, names, title, paths["predictions"])
    several = len(predictor.members) > 1
    for i, member in enumerate(predictor.members):
        name = f"learning_curves_{i + 1}" if several else "learning_curves"
        paths[name] = folder / f"{name}.png"
        figures.learning_curves(runs.read_metrics(member.workdir), member.workdir.name, paths[name])
    return list(paths.values())
