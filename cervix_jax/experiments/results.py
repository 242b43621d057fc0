"""From runs to the rows of a table: published beside measured, with intervals, from the work directory alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from cervix_jax.experiments import validation_predictions
from cervix_jax.experiments.report_tables import PUBLISHED_IMAGES, Experiment, Row
from cervix_jax.experiments.runner import Run
from cervix_jax.experiments.validation_predictions import ValidationPredictions
from cervix_jax.inference import ensemble
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.runs import read_metrics
from cervix_jax.training.metrics import classification_metrics


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run, or an ensemble of runs, reaches on the validation photographs.

    Attributes:
      loss: cross-entropy in nats.
      accuracy: fraction, 0 to 1.
      num_examples: number of validation photographs.
      num_classes: 3, or 2 for one type against the rest.
      epoch: whose metrics these are; None for an ensemble.
      epochs: that were trained.
      train_accuracy: in that epoch, with augmentation and dropout; None for an ensemble.
      confusion_matrix: rows true, columns predicted; None if `epoch` is not the best, whose predictions are kept.
    """

    loss: float
    accuracy: float
    num_examples: int
    num_classes: int
    epoch: int | None
    epochs: int
    train_accuracy: float | None
    confusion_matrix: list[list[int]] | None


def table_rows(experiment: Experiment, runs: Sequence[Run], workdir: Path) -> list[dict[str, Any]]:
    """The rows of a table, ready for JSON.

    Each has `title`, `systems`, `rule`, `published` (`loss`, `accuracy`, `train_accuracy`, `note`), `measured` (None
    without a finished run) and `reason` (why runs failed, or None). `measured`: means over seeds of `loss`, `accuracy`
    and `train_accuracy`; `loss_sd`, `accuracy_sd`: their standard deviations (None for one seed); `interval`: of the
    accuracy, 95 %; `seeds`; `num_examples`; `epoch` reported and `epochs` trained, for each seed; `confusion_matrix`:
    sum over seeds; `num_classes`; `random_backbone`. `within_best`: whether the accuracy, `published` and `measured`,
    lies inside the interval of the table's best, among the rows that tell all three types apart.
    """
    by_system = {name: [run for run in runs if run.system == name] for name in experiment.systems}
    rows = []
    for row in experiment.rows:
        members = [run for name in row.systems for run in by_system[name]]
        outcomes = _outcomes(row, [run for run in members if run.reason is None], workdir)
        reasons = dict.fromkeys(run.reason for run in members if run.reason)
        rows.append(
            {
                "title": row.title,
                "systems": list(row.systems),
                "rule": row.rule,
                "published": dataclasses.asdict(row.published),
                "measured": _summary(outcomes, members) if outcomes else None,
                "reason": "; ".join(reasons) or None,
            }
        )
    within_best = {key: _within_best(rows, key) for key in ("published", "measured")}
    return [row | {"within_best": {key: within_best[key][i] for key in within_best}} for i, row in enumerate(rows)]


def single_outcome(folder: Path, reported_epoch: str = "best") -> Outcome:
    """Of one run, from its metrics; of the moving average where one was kept.

    Args:
      folder: of the run.
      reported_epoch: 'best' or 'last', see `Variant`.
    """
    metrics = read_metrics(folder)
    prefix = "ema_validation" if "ema_validation_loss" in metrics[-1] else "validation"
    epoch = metrics[-1] if reported_epoch == "last" else min(metrics, key=lambda epoch: epoch[f"{prefix}_loss"])
    predictions = ValidationPredictions.read(folder)
    scores = classification_metrics(predictions.probabilities, predictions.labels, predictions.class_names)
    return Outcome(
        loss=epoch[f"{prefix}_loss"],
        accuracy=epoch[f"{prefix}_accuracy"],
        num_examples=len(predictions.labels),
        num_classes=len(predictions.class_names),
        epoch=epoch["epoch"],
        epochs=len(metrics),
        train_accuracy=epoch["train_accuracy"],
        confusion_matrix=scores["confusion_matrix"] if reported_epoch == "best" else None,
    )


def ensemble_outcome(folders: Sequence[Path], rule: str) -> Outcome:
    """Of several runs as one, from their probabilities.

    Args:
      folders: of the runs.
      rule: 'report', 'mean' or 'geometric'; or 'one_vs_rest', with one run for each type.
    """
    members = [ValidationPredictions.read(folder) for folder in folders]
    singles = [single_outcome(folder) for folder in folders]
    if any(member.ids != members[0].ids for member in members):
        raise ValueError(f"{', '.join(map(str, folders))} have different validation photographs")
    probabilities, class_names = ensemble.combine(
        [member.probabilities for member in members],
        rule=rule,
        losses=[single.loss for single in singles],
        class_names=[member.class_names for member in members],
    )
    labels = members[0].labels
    if rule == "one_vs_rest":  # each photograph is positive for exactly one of the three
        is_class = {member.class_names[1]: member.labels for member in members}
        labels = np.stack([is_class[name] for name in class_names]).argmax(axis=0)
    scores = classification_metrics(probabilities, labels, class_names)
    return Outcome(
        loss=scores["loss"],
        accuracy=scores["accuracy"],
        num_examples=len(labels),
        num_classes=len(class_names),
        epoch=None,
        epochs=min(single.epochs for single in singles),
        train_accuracy=None,
        confusion_matrix=scores["confusion_matrix"],
    )


def interval(accuracy: float, num_examples: int) -> list[float]:
    """95 % interval of an accuracy on so many photographs (Wilson 1927); of a mean over seeds, on the same ones."""
    limits = binomtest(round(accuracy * num_examples), num_examples).proportion_ci(0.95, "wilson")
    return [float(limits.low), float(limits.high)]


def _outcomes(row: Row, members: Sequence[Run], workdir: Path) -> list[Outcome]:
    """One for each seed with which every variant of the row is finished."""
    outcomes = []
    for seed in sorted({run.seed for run in members}):
        folder_of = {run.system: workdir / run.folder for run in members if run.seed == seed}
        folders = [folder_of[name] for name in row.systems if name in folder_of]
        finished = [folder for folder in folders if (folder / validation_predictions.FILE_NAME).exists()]
        if len(finished) == len(row.systems):
            if row.rule is None:
                outcomes.append(single_outcome(folders[0], members[0].variant.reported_epoch))
            else:
                outcomes.append(ensemble_outcome(folders, row.rule))
    return outcomes


def _summary(outcomes: Sequence[Outcome], members: Sequence[Run]) -> dict[str, Any]:
    """`measured`; see `table_rows`."""
    first = outcomes[0]
    losses, accuracies = ([getattr(outcome, name) for outcome in outcomes] for name in ("loss", "accuracy"))
    train_accuracies = [outcome.train_accuracy for outcome in outcomes if outcome.train_accuracy is not None]
    matrices = [outcome.confusion_matrix for outcome in outcomes if outcome.confusion_matrix is not None]

    def deviation(values: Sequence[float]) -> float | None:
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    return {
        "loss": float(np.mean(losses)),
        "loss_sd": deviation(losses),
        "accuracy": float(np.mean(accuracies)),
        "accuracy_sd": deviation(accuracies),
        "interval": interval(float(np.mean(accuracies)), first.num_examples),
        "train_accuracy": float(np.mean(train_accuracies)) if train_accuracies else None,
        "seeds": len(outcomes),
        "num_examples": first.num_examples,
        "num_classes": first.num_classes,
        "epoch": [outcome.epoch for outcome in outcomes],
        "epochs": [outcome.epochs for outcome in outcomes],
        "confusion_matrix": np.sum(matrices, axis=0).tolist() if matrices else None,
        "random_backbone": any(run.random_backbone for run in members),
    }


def _within_best(rows: Sequence[Mapping[str, Any]], key: str) -> list[bool | None]:
    """`within_best` of each row; None where the accuracy is unknown, alone, or not of three types."""

    def accuracy(row: Mapping[str, Any]) -> float | None:
        comparable = row["measured"] is None or row["measured"]["num_classes"] == len(CLASS_NAMES)
        return row[key]["accuracy"] if row[key] and comparable else None

    accuracies = [accuracy(row) for row in rows]
    compared = [a for a in accuracies if a is not None]
    if len(compared) < 2:
        return [None] * len(rows)
    num_images = PUBLISHED_IMAGES
    if key == "measured":
        num_images = next(row["measured"]["num_examples"] for row in rows if accuracy(row) is not None)
    low, _ = interval(max(compared), num_images)
    return [None if a is None else a >= low for a in accuracies]
