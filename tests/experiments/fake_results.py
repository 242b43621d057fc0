"""Results of systems that are made up here, so that every number of a table is known."""

from collections.abc import Sequence

import numpy as np

from cervix_jax.experiments.report_tables import Experiment, Row
from cervix_jax.experiments.system_results import FoldRun, SystemResult
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import cross_entropy

COUNT = 60
LABELS = np.random.default_rng(0).integers(0, 3, COUNT)
FOLDS = np.arange(COUNT) % 3
CONDITIONS = {
    **{"dataset": "cervix/cleaned", "image_size": [32, 24], "batch_size": 16, "ema_decay": 0.99},
    **{"jax": "0.12", "revision": "abc"},
}


def random_probabilities(seed: int, num_classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), COUNT)


def good_probabilities(sureness: float) -> np.ndarray:
    """Right everywhere, as sure as is said."""
    return np.eye(3)[LABELS] * sureness + (1 - sureness) / 3


def make_table(
    probabilities: np.ndarray, labels: np.ndarray = LABELS, class_names: tuple[str, ...] = CLASS_NAMES
) -> PredictionTable:
    ids = [f"train/{i}.jpg" for i in range(COUNT)]
    return PredictionTable(ids, labels, np.arange(COUNT), FOLDS, probabilities, class_names)


def make_result(
    system: str, *tables: PredictionTable, losses: Sequence[float] | None = None, reason: str | None = None
) -> SystemResult:
    """A system with a table a seed, three folds each; `losses` of the folds' runs, else those of the tables."""
    runs = []
    for seed, table in enumerate(tables):
        for fold in range(3):
            rows = table.folds == fold
            loss = cross_entropy(table.probabilities[rows], table.labels[rows]) if losses is None else losses[fold]
            runs.append(FoldRun(fold, seed, fold + 1, loss, 0.5, 0.6, (2.0, loss, loss + 0.1)))
    return SystemResult(system, dict(enumerate(tables)), tuple(runs), CONDITIONS, False, reason)


def make_experiment(*rows: Row, base: str | None = None, **changes) -> Experiment:
    return Experiment("A table", "0", rows, base or rows[0].title, **changes)
