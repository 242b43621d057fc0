"""From runs to the lines of a table: published beside measured, with intervals, from the work directory alone."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest

from cervix_jax import runs
from cervix_jax.experiments.report_tables import PUBLISHED_IMAGES, Experiment, Row
from cervix_jax.experiments.runner import PREDICTIONS, Run
from cervix_jax.experiments.variants import VARIANTS
from cervix_jax.inference import ensemble
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import classification_metrics


class Predictions(NamedTuple):
    """`validation.csv` of a run."""

    ids: list[str]
    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    probabilities: Float[np.ndarray, "n k"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run, or several brought together, reach on the validation photographs.

    Attributes:
      loss: cross-entropy in nats.
      accuracy: share of right ones.
      num_examples: how many photographs.
      num_classes: 3, or 2 of one type against the rest.
      epoch: that counts, None of several runs together.
      epochs: that were trained.
      train_accuracy: in that epoch, under augmentation and dropout; None of several runs together.
      confusion_matrix: rows true, columns predicted; None of another epoch than the best.
    """

    loss: float
    accuracy: float
    num_examples: int
    num_classes: int
    epoch: int | None
    epochs: int
    train_accuracy: float | None
    confusion_matrix: list[list[int]] | None


def rows(experiment: Experiment, found: Sequence[Run], workdir: Path) -> list[dict[str, Any]]:
    """The lines of a table, ready for JSON.

    Each has `title`, `systems`, `rule`, `published` (`loss`, `accuracy`, `train_accuracy`, `note`), `measured` (None
    while nothing is) and `reason` (None, or why nothing is). `measured`: means over seeds of `loss`, `accuracy`,
    `train_accuracy`, and their `loss_sd`, `accuracy_sd` (None of one seed); `interval`: of the accuracy, 95 %; `seeds`;
    `num_examples`; `epoch` that counts and `epochs` trained, of each seed; `confusion_matrix`: sum over seeds;
    `num_classes`; `random_backbone`. `within_best`: whether the accuracy, `published` and `measured`, lies inside the
    interval of the table's best, of those that tell all three types.
    """
    found_of = {name: [run for run in found if run.system == name] for name in experiment.systems}
    good_of = {name: [run for run in members if run.reason is None] for name, members in found_of.items()}
    lines = []
    for row in experiment.rows:
        outcomes = _outcomes(row, good_of, workdir)
        members = [run for name in row.systems for run in found_of[name]]
        reasons = dict.fromkeys(run.reason for run in members if run.reason)
        lines.append(
            {
                "title": row.title,
                "systems": list(row.systems),
                "rule": row.rule,
                "published": dataclasses.asdict(row.published),
                "measured": _measured(outcomes, members) if outcomes else None,
                "reason": "; ".join(reasons) or None,
            }
        )
    _compare(lines)
    return lines


def _outcomes(row: Row, found_of: Mapping[str, Sequence[Run]], workdir: Path) -> list[Outcome]:
    """Of each seed that every system of the row has been run with."""
    seeds = sorted({run.seed for run in found_of[row.systems[0]]})
    outcomes = []
    for seed in seeds:
        folders = [workdir / run.folder for name in row.systems for run in found_of[name] if run.seed == seed]
        if len(folders) == len(row.systems) and all((folder / PREDICTIONS).exists() for folder in folders):
            if row.rule is None:
                outcomes.append(outcome(folders[0], VARIANTS[row.systems[0]].epoch))
            else:
                outcomes.append(together(folders, row.rule))
    return outcomes


def outcome(folder: Path, epoch: str = "best") -> Outcome:
    """Of one run, by its metrics; of the moving average where one was kept."""
    metrics = runs.read_metrics(folder)
    prefix = "ema_validation" if "ema_validation_loss" in metrics[-1] else "validation"
    line = metrics[-1] if epoch == "last" else min(metrics, key=lambda line: line[f"{prefix}_loss"])
    found = read_predictions(folder / PREDICTIONS)
    scores = classification_metrics(found.probabilities, found.labels, found.class_names)
    return Outcome(
        loss=line[f"{prefix}_loss"],
        accuracy=line[f"{prefix}_accuracy"],
        num_examples=len(found.labels),
        num_classes=len(found.class_names),
        epoch=line["epoch"],
        epochs=len(metrics),
        train_accuracy=line["train_accuracy"],
        confusion_matrix=scores["confusion_matrix"] if epoch == "best" else None,
    )


def together(folders: Sequence[Path], rule: str) -> Outcome:
    """Of several runs as one, by their probabilities.

    Args:
      folders: of the runs.
      rule: 'report', 'mean' or 'geometric'; or 'one_vs_rest', one run a type.
    """
    members = [read_predictions(folder / PREDICTIONS) for folder in folders]
    singles = [outcome(folder) for folder in folders]
    if any(member.ids != members[0].ids for member in members):
        raise ValueError(f"{', '.join(map(str, folders))} validate with different photographs")
    probabilities = np.stack([member.probabilities for member in members])
    if rule == "one_vs_rest":
        names = tuple(member.class_names[1] for member in members)
        combined = ensemble.normalize_one_vs_rest(probabilities[:, :, 1].T)
        # Each photograph is positive for exactly one of the three.
        labels = np.stack([member.labels for member in members]).argmax(axis=0)
    else:
        names, labels = members[0].class_names, members[0].labels
        weights = ensemble.report_weights([single.loss for single in singles]) if rule == "report" else None
        if weights is None:
            weights = np.full(len(members), 1 / len(members))
        combined = ensemble.mean(probabilities, weights, geometric=rule == "geometric")
    scores = classification_metrics(combined, labels, names)
    return Outcome(
        loss=scores["loss"],
        accuracy=scores["accuracy"],
        num_examples=len(labels),
        num_classes=len(names),
        epoch=None,
        epochs=min(single.epochs for single in singles),
        train_accuracy=None,
        confusion_matrix=scores["confusion_matrix"],
    )


def read_predictions(path: Path) -> Predictions:
    """`validation.csv`, as `running.write_predictions` writes it."""
    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    return Predictions(
        ids=[line[0] for line in lines],
        labels=np.array([int(line[1]) for line in lines]),
        class_names=tuple(header[2:]),
        probabilities=np.array([[float(x) for x in line[2:]] for line in lines]),
    )


def _measured(outcomes: Sequence[Outcome], members: Sequence[Run]) -> dict[str, Any]:
    losses, accuracies = ([getattr(outcome, name) for outcome in outcomes] for name in ("loss", "accuracy"))
    trained = [outcome.train_accuracy for outcome in outcomes if outcome.train_accuracy is not None]
    matrices = [outcome.confusion_matrix for outcome in outcomes if outcome.confusion_matrix is not None]
    several = len(outcomes) > 1
    return {
        "loss": float(np.mean(losses)),
        "loss_sd": float(np.std(losses, ddof=1)) if several else None,
        "accuracy": float(np.mean(accuracies)),
        "accuracy_sd": float(np.std(accuracies, ddof=1)) if several else None,
        "interval": interval(float(np.mean(accuracies)), outcomes[0].num_examples),
        "train_accuracy": float(np.mean(trained)) if trained else None,
        "seeds": len(outcomes),
        "num_examples": outcomes[0].num_examples,
        "num_classes": outcomes[0].num_classes,
        "epoch": [outcome.epoch for outcome in outcomes],
        "epochs": [outcome.epochs for outcome in outcomes],
        "confusion_matrix": np.sum(matrices, axis=0).tolist() if matrices else None,
        "random_backbone": any(run.random_backbone for run in members),
    }


def interval(accuracy: float, num_examples: int) -> list[float]:
    """95 %, of an accuracy on so many photographs (Wilson 1927); of a mean over seeds, on the same photographs."""
    limits = binomtest(round(accuracy * num_examples), num_examples).proportion_ci(0.95, "wilson")
    return [float(limits.low), float(limits.high)]


def _compare(lines: list[dict[str, Any]]) -> None:
    """Adds `within_best`; see `rows`."""
    for line in lines:
        line["within_best"] = {"published": None, "measured": None}
    for kind in ("published", "measured"):
        known = [line for line in lines if line[kind] and line[kind]["accuracy"] is not None]
        known = [line for line in known if not line["measured"] or line["measured"]["num_classes"] == len(CLASS_NAMES)]
        if len(known) < 2:
            continue
        best = max(line[kind]["accuracy"] for line in known)
        images = PUBLISHED_IMAGES if kind == "published" else known[0]["measured"]["num_examples"]
        low, _ = interval(best, images)
        for line in known:
            line["within_best"][kind] = line[kind]["accuracy"] >= low
