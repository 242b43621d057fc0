"""Runs whose files are written here, so that every number of a table is known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cervix_jax.experiments.report_tables import Experiment, Row
from cervix_jax.experiments.runner import Run
from cervix_jax.experiments.validation_predictions import ValidationPredictions
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import classification_metrics

LABELS = np.array([0, 1, 1, 2, 1, 2, 1, 0, 1, 2])


def write_run(
    workdir: Path,
    system: str,
    seed: int,
    probabilities: np.ndarray,
    *,
    labels: np.ndarray = LABELS,
    class_names: tuple[str, ...] = CLASS_NAMES,
    losses: Sequence[float] = (),
    ema: bool = False,
) -> Run:
    """Files of a run that predicts `probabilities` in its best epoch; where a loss is above 5, accuracy is 0.1."""
    folder = workdir / f"runs/{system}-{seed}"
    folder.mkdir(parents=True)
    scores = classification_metrics(probabilities, labels, class_names)
    prefix = "ema_validation" if ema else "validation"
    metrics = [
        {"epoch": epoch, "train_accuracy": epoch / 10, "validation_loss": 9.0, "validation_accuracy": 0.0}
        | {f"{prefix}_loss": loss, f"{prefix}_accuracy": scores["accuracy"] if loss < 5 else 0.1}
        for epoch, loss in enumerate(losses or [scores["loss"]], start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in metrics))
    ids = [f"{i}.jpg" for i in range(len(labels))]
    ValidationPredictions(ids, labels, class_names, probabilities).write(folder)
    return Run(system, seed, str(folder.relative_to(workdir)))


def random_probabilities(seed: int, num_classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), len(LABELS))


def make_table(*rows: Row) -> Experiment:
    return Experiment("A table", "0", rows)
