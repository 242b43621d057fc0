"""From what is kept of systems to the rows of a table: published beside measured, paired with the table's base."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cervix_jax.experiments.report_tables import Claim, Experiment, Row
from cervix_jax.experiments.runner import CROPPED
from cervix_jax.experiments.system_results import SystemResult, common_ids, scores
from cervix_jax.experiments.variants import VARIANTS
from cervix_jax.inference import ensemble
from cervix_jax.inference.bootstrap import mean_intervals
from cervix_jax.inference.calibration import apply_temperature, fit_temperature
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import confusion_matrix

Results = Mapping[str, SystemResult]  # by system
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
CALIBRATED = "one_vs_rest_calibrated"


@dataclasses.dataclass(frozen=True)
class RowPredictions:
    """What a row says of photographs that its runs have not seen.

    Attributes:
      tables: one for each seed that all members have.
      members: the systems that it is made of.
    """

    tables: tuple[PredictionTable, ...]
    members: tuple[SystemResult, ...]


def table_rows(experiment: Experiment, results: Results) -> list[dict[str, Any]]:
    """The rows of a table, ready for JSON.

    Each has `title`, `systems`, `rule`, `published` (`loss`, `accuracy`, `train_accuracy`, `note`), `measured` (None
    where nothing is), `on_cervix` (likewise of its systems on the cervix; its `difference` is to the same row on whole
    photographs) and `reason` (why runs failed, or None). `measured`: `loss`, `accuracy`, each with `_interval`
    (95 %, bootstrap over photographs, near-duplicates together; None for what is reported at the last epoch, of which
    no predictions are kept); `difference` to the table's base on the same photographs (None for the base, and for rows
    that tell apart other types): for loss and accuracy `value`, `interval`, `verdict`; `train_accuracy`; `seeds`;
    `folds`; `num_examples`; `num_classes`; `epoch` of each run and `epochs` trained; `confusion_matrix`: sum over
    seeds, None where no predictions of that epoch are kept; `random_backbone`.

    Args:
      experiment: the table's.
      results: of systems.
    """
    predictions = {row.title: _predictions(row, results) for row in experiment.rows}
    base = predictions[experiment.base]
    rows = []
    for row in experiment.rows:
        names = (name + suffix for name in row.systems for suffix in ("", CROPPED))
        reasons = dict.fromkeys(reason for name in names if name in results and (reason := results[name].reason))
        own, cropped = predictions[row.title], _predictions(row, results, CROPPED)
        rows.append(
            {
                "title": row.title,
                "systems": list(row.systems),
                "rule": row.rule,
                "published": dataclasses.asdict(row.published),
                "measured": None if own is None else _summary(own, None if row.title == experiment.base else base),
                "on_cervix": None if cropped is None else _summary(cropped, own),
                "reason": "; ".join(reasons) or None,
            }
        )
    return rows


def difference(first: RowPredictions, second: RowPredictions) -> dict[str, Any] | None:
    """The second's loss and accuracy less the first's, on the photographs that both hold out; None if there are none.

    None too if they saw photographs of other data sets or sizes, which would be compared instead of the systems.

    Returns:
      `num_examples`; for `loss` and `accuracy` the `value`, its 95 % `interval` and the `verdict` on the second.
    """
    ids = common_ids([*first.tables, *second.tables])
    conditions = [member.conditions for member in (*first.members, *second.members)]
    if any(each[name] != conditions[0][name] for each in conditions for name in ("dataset", "image_size")):
        return None
    if not ids or first.tables[0].class_names != second.tables[0].class_names:
        return None
    (table, of_first), (_, of_second) = (scores([table.take(ids) for table in m.tables]) for m in (first, second))
    values = of_second - of_first
    intervals = mean_intervals(values, table.groups)
    compared: dict[str, Any] = {"num_examples": len(ids)}
    for i, (name, sign) in enumerate((("loss", -1), ("accuracy", 1))):
        low, high = intervals[i].tolist()
        verdict = CANNOT_TELL if low <= 0 <= high else BETTER if sign * low > 0 else WORSE
        compared[name] = {"value": float(values[:, i].mean()), "interval": [low, high], "verdict": verdict}
    return compared


def conclusions(experiment: Experiment, results: Results) -> list[dict[str, Any]]:
    """Whether each of the report's claims about a table holds here, by the interval of a paired difference of losses.

    Returns:
      For each claim `claim`, `difference` (None where a row was not run) and `verdict`: 'holds', 'does not hold',
      'cannot be told' or 'not run'.
    """
    row_of = {row.title: row for row in experiment.rows}
    return [_conclusion(claim, row_of, results) for claim in experiment.claims]


def _conclusion(claim: Claim, row_of: Mapping[str, Row], results: Results) -> dict[str, Any]:
    first, second = (_predictions(row_of[title], results) for title in (claim.than, claim.better))
    compared = None if first is None or second is None else difference(first, second)
    if compared is None:
        return {"claim": claim.text, "difference": None, "verdict": "not run"}
    low, high = compared["loss"]["interval"]
    if claim.margin is not None:
        holds, fails = -claim.margin < low and high < claim.margin, high < -claim.margin or claim.margin < low
    else:
        holds, fails = high < 0, low > 0
    verdict = "holds" if holds else "does not hold" if fails else "cannot be told"
    return {"claim": claim.text, "difference": compared["loss"], "verdict": verdict}


def _predictions(row: Row, results: Results, suffix: str = "") -> RowPredictions | None:
    """The predictions of a row; None where a member has none of its own, or members lack each other's folds."""
    members = tuple(results[name + suffix] for name in row.systems if name + suffix in results)
    if len(members) < len(row.systems):
        return None
    seeds = sorted(set[int].intersection(*(set(member.tables) for member in members)))
    if row.rule is None:
        tables = [members[0].tables[seed] for seed in seeds]
    else:
        tables = [_combined(members, row.rule, seed) for seed in seeds]
    return RowPredictions(tuple(tables), members) if tables and common_ids(tables) else None


def _combined(members: Sequence[SystemResult], rule: str, seed: int) -> PredictionTable:
    """An ensemble, fold by fold: a photograph is judged by the members that have not seen it."""
    ids = common_ids([member.tables[seed] for member in members])
    tables = [member.tables[seed].take(ids) for member in members]
    if rule == CALIBRATED:
        tables = [_cross_calibrated(table) for table in tables]
    folds, probabilities = tables[0].folds, np.zeros((len(ids), len(CLASS_NAMES)))
    for fold in np.unique(folds).tolist():
        rows = folds == fold
        probabilities[rows], _ = ensemble.combine(
            [table.probabilities[rows] for table in tables],
            rule="one_vs_rest" if rule == CALIBRATED else rule,
            losses=[member.losses(seed)[fold] for member in members],
            class_names=[table.class_names for table in tables],
        )
    labels = tables[0].labels
    if rule in ("one_vs_rest", CALIBRATED):  # each photograph is positive for exactly one of the three
        is_class = {table.class_names[1]: table.labels for table in tables}
        labels = np.stack([is_class[name] for name in CLASS_NAMES]).argmax(axis=0)
    return dataclasses.replace(tables[0], labels=labels, probabilities=probabilities, class_names=CLASS_NAMES)


def _cross_calibrated(table: PredictionTable) -> PredictionTable:
    """Each fold's probabilities at the temperature that fits the other folds; as they are where there is no other."""
    probabilities = table.probabilities.copy()
    for fold in np.unique(table.folds).tolist():
        rows = table.folds == fold
        if not rows.all():
            temperature = fit_temperature(table.probabilities[~rows], table.labels[~rows])
            probabilities[rows] = apply_temperature(table.probabilities[rows], temperature)
    return dataclasses.replace(table, probabilities=probabilities)


def _summary(predictions: RowPredictions, base: RowPredictions | None) -> dict[str, Any]:
    """`measured`; see `table_rows`."""
    table, of_photographs = scores(predictions.tables)
    loss, accuracy = of_photographs.mean(axis=0).tolist()
    intervals: list[Any] = mean_intervals(of_photographs, table.groups).tolist()
    compared = None if base is None else difference(base, predictions)
    is_single = len(predictions.members) == 1
    runs = predictions.members[0].runs if is_single else ()
    matrices = [confusion_matrix(t.probabilities, t.labels) for t in predictions.tables]
    confusion: list[Any] | None = np.sum(matrices, axis=0).tolist()
    variant = VARIANTS.get(predictions.members[0].system.removesuffix(CROPPED))
    if is_single and variant is not None and variant.reported_epoch == "last":
        loss, accuracy = (_mean_over_folds(predictions, key) for key in ("loss", "accuracy"))
        intervals, compared, confusion = [None, None], None, None
    train_accuracies = [run.train_accuracy for run in runs if run.train_accuracy is not None]
    return {
        "loss": loss,
        "loss_interval": intervals[0],
        "accuracy": accuracy,
        "accuracy_interval": intervals[1],
        "difference": compared,
        "train_accuracy": float(np.mean(train_accuracies)) if train_accuracies else None,
        "seeds": len(predictions.tables),
        "folds": sorted(set(table.folds.tolist())),
        "num_examples": len(table.ids),
        "num_classes": len(table.class_names),
        "epoch": [run.epoch for run in runs],
        "epochs": [len(run.curve) for run in runs],
        "confusion_matrix": confusion,
        "random_backbone": any(member.random_backbone for member in predictions.members),
    }


def _mean_over_folds(predictions: RowPredictions, name: str) -> float:
    """Of the runs, each weighted by the photographs of its fold."""
    folds = predictions.tables[0].folds
    weights: Float[np.ndarray, "r"] = np.array(
        [(folds == run.fold).sum() for run in predictions.members[0].runs], float
    )
    return float(np.average([getattr(run, name) for run in predictions.members[0].runs], weights=weights))
