"""A table as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cervix_jax.experiments.report_tables import Experiment

TableRow = Mapping[str, Any]  # see `results.table_rows`

HEADER = (
    "system",
    "loss, report",
    "accuracy, report",
    "loss (95 %)",
    "accuracy (95 %)",
    "loss against base (95 %)",
    "verdict",
    "in training",
    "recall of types 1, 2, 3",
    "epoch of each run",
)
ON_CERVIX = ("loss on the cervix (95 %)", "against whole photographs (95 %)", "verdict on the cervix")


def markdown(
    experiment: Experiment,
    rows: Sequence[TableRow],
    conclusions: Sequence[Mapping[str, Any]],
    conditions: str,
) -> str:
    """A section: how the runs were made, the table, and which of the report's conclusions hold.

    Args:
      experiment: the table's.
      rows: of the table.
      conclusions: see `results.conclusions`.
      conditions: a sentence on data, image size, epochs and folds.
    """
    has_cropped = any(row["on_cervix"] for row in rows)
    table = [[*HEADER, *(ON_CERVIX if has_cropped else ())]]
    table.append(["---"] * len(table[0]))
    for row in rows:
        title = f"**{row['title']}** (base)" if row["title"] == experiment.base else row["title"]
        table.append([title, *_cells(row), *(_cells_on_cervix(row["on_cervix"]) if has_cropped else ())])
    text = [f"## {experiment.title} ({sections(experiment)})", "", conditions, ""]
    text += ["| " + " | ".join(cells) + " |" for cells in table]
    if has_cropped:
        text += [
            "",
            "On the cervix: the same system on photographs cropped to the box that a localiser finds, which has not "
            "learned from those held out; paired with itself on whole photographs.",
        ]
    if conclusions:
        text += ["", "| the report concludes | loss, difference (95 %) | here |", "| --- | --- | --- |"]
        text += [f"| {c['claim']} | {format_difference(c['difference'])} | **{c['verdict']}** |" for c in conclusions]
    if experiment.note:
        text += ["", experiment.note]
    return "\n".join(text) + "\n"


def sections(experiment: Experiment) -> str:
    """Where the report has it: 'report section 8', 'report sections 10, 15'."""
    return f"report section{'s' if ',' in experiment.section else ''} {experiment.section}"


def format_difference(compared: Mapping[str, Any] | None) -> str:
    """A difference and its 95 % interval; empty without one."""
    if not compared:
        return ""
    value, low, high = (_signed(x) for x in (compared["value"], *compared["interval"]))
    return f"{value} ({low} to {high})"


def _signed(x: float) -> str:
    """Three decimals, and more where they would hide on which side of 0 a number lies."""
    digits = 3 if x == 0 or abs(x) >= 0.0005 else -math.floor(math.log10(abs(x)))
    return f"{x + 0.0:+.{digits}f}"


def _cells(row: TableRow) -> list[str]:
    """All but the title."""
    published, measured = row["published"], row["measured"]
    cells = [_format(published["loss"], ".4g"), _format(published["accuracy"], ".1%")]
    if published["train_accuracy"] is not None:
        cells[1] += f" (training {published['train_accuracy']:.0%})"
    if published["note"]:
        cells[0] += f" ({published['note']})"
    if measured is None:
        reason = "" if row["reason"] is None else f": {_shorten(row['reason'])}"
        return [*cells, f"not run{reason}", *[""] * (len(HEADER) - 4)]
    accuracy = f"{measured['accuracy']:.1%}"
    if measured["accuracy_interval"]:
        low, high = measured["accuracy_interval"]
        accuracy += f" ({100 * low:.1f} to {100 * high:.1f})"
    compared = measured["difference"] and measured["difference"]["loss"]
    has_recalls = measured["num_classes"] == 3 and measured["confusion_matrix"]
    recalls = " / ".join(f"{recall:.0%}" for recall in _recalls(measured)) if has_recalls else ""
    epochs = ", ".join(map(str, measured["epoch"]))
    if row["reason"] is not None:
        epochs += f" (a run failed: {_shorten(row['reason'])})"
    verdict = f"**{compared['verdict']}**" if compared else ""
    train_accuracy = _format(measured["train_accuracy"], ".1%")
    return [*cells, _loss(measured), accuracy, format_difference(compared), verdict, train_accuracy, recalls, epochs]


def _cells_on_cervix(measured: Mapping[str, Any] | None) -> list[str]:
    compared = measured and measured["difference"] and measured["difference"]["loss"]
    return [_loss(measured), format_difference(compared), f"**{compared['verdict']}**" if compared else ""]


def _loss(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return ""
    interval = ""
    if measured["loss_interval"]:
        low, high = measured["loss_interval"]
        interval = f" ({low:.3f} to {high:.3f})"
    return f"{measured['loss']:.3f}{interval}{', random backbone' if measured['random_backbone'] else ''}"


def _shorten(reason: str) -> str:
    """The beginning of a reason, on one line of a table; the JSON file has the whole."""
    text = " ".join(reason.split()).replace("|", "/")
    return text if len(text) <= 240 else f"{text[:240]} ..."


def _format(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _recalls(measured: Mapping[str, Any]) -> list[float]:
    matrix = measured["confusion_matrix"]
    return (np.diag(matrix) / np.maximum(np.sum(matrix, axis=1), 1)).tolist()
