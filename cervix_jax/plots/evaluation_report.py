"""All figures of an evaluation, and the learning curves of its runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cervix_jax import runs
from cervix_jax.inference.clinical_metrics import risk_coverage
from cervix_jax.inference.evaluation import Evaluation
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.plots import figures
from cervix_jax.progress import log
from cervix_jax.training.metrics import confusion_matrix, reliability

NAMES = ("confusion_matrix", "reliability", "risk_coverage", "predictions", "learning_curves")


def evaluation_figures(
    folder: Path,
    predictor: Predictor,
    source: str,
    cases: LabelledPhotographs,
    evaluation: Evaluation,
    alone: Mapping[str, Float[np.ndarray, "n k"]] | None = None,
) -> dict[str, Path]:
    """Writes every figure of an evaluation.

    Args:
      folder: made if missing.
      predictor: that was evaluated.
      source: the split or folder, for the titles.
      cases: the n photographs that it was evaluated on.
      evaluation: of the predictor on them.
      alone: of an ensemble, what each of its systems says.

    Returns:
      Paths by what they show: `confusion_matrix`, `reliability`, `risk_coverage`, `predictions`, and `learning_curves`
      (of several runs numbered from 1; none of a run whose metrics are lost).
    """
    names, labels, probabilities = predictor.class_names, cases.labels, evaluation.probabilities
    title = f"{predictor.name}, {source} ({len(labels)} photographs)"
    paths = {name: folder / f"{name}.png" for name in NAMES[:-1]}
    figures.confusion_matrix(confusion_matrix(probabilities, labels), names, title, paths["confusion_matrix"])
    figures.reliability(_reliability_curves(cases, evaluation), title, paths["reliability"])
    systems = {predictor.name: probabilities} | dict(alone or {})
    curves = {name: risk_coverage(each, labels) for name, each in systems.items()}
    figures.risk_coverage(curves, title, paths["risk_coverage"])
    images = [photograph.images[0] for photograph in cases.photographs]
    figures.predictions(images, probabilities, labels, names, title, paths["predictions"])
    for i, member in enumerate(predictor.members):
        rows, averaged = runs.read_metrics(member.workdir), member.weights == "ema"
        if not rows:
            log(f"{member.workdir} has no {runs.METRICS}, so no learning curves are drawn")
            continue
        name = f"learning_curves_{i + 1}" if len(predictor.members) > 1 else "learning_curves"
        paths[name] = folder / f"{name}.png"
        figures.learning_curves(rows, member.record["epoch"], member.workdir.name, paths[name], averaged=averaged)
    return paths


def _reliability_curves(cases: LabelledPhotographs, evaluation: Evaluation) -> dict[str, list[dict[str, float | int]]]:
    """Before the temperature, and after it where there is a calibration that changes anything."""
    before = reliability(evaluation.probabilities, cases.labels)
    calibrated = evaluation.metrics.get("calibrated")
    if calibrated is None:
        return {"not calibrated": before}
    if calibrated["temperature"] == 1:
        return {"calibrated; the temperature is 1": before}
    after = f"after the temperature, {calibrated['temperature']:.3g}"
    return {"before the temperature": before, after: calibrated["reliability"]}
