"""A table as a Markdown page, and as figures where these read better."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cervix_jax.experiments.report_tables import PUBLISHED_IMAGES, Experiment
from cervix_jax.experiments.variants import KEEP_FRACTIONS, SHARPNESSES, cleaning_variant
from cervix_jax.plots.figures import draw_confusion, save

TableRow = Mapping[str, Any]  # see `results.table_rows`

_HEADER = (
    "system",
    "loss, report",
    "accuracy, report",
    "loss",
    "accuracy (95 %)",
    "in training",
    "recall of types 1, 2, 3",
    "best epoch",
)


def markdown(experiment: Experiment, rows: Sequence[TableRow], conditions: str) -> str:
    """A page: how the runs were made, the table, and which differences are larger than chance.

    Args:
      experiment: the table's.
      rows: of the table.
      conditions: a sentence on data, image size, epochs and seeds.
    """
    table = [_HEADER, ["---"] * len(_HEADER), *map(_cells, rows)]
    text = [f"# {experiment.title} (report section {experiment.section})", "", conditions, ""]
    text += ["| " + " | ".join(cells) + " |" for cells in table]
    text += ["", *(sentence for key in ("published", "measured") if (sentence := _within_best(rows, key)))]
    return "\n".join(text) + "\n"


def figures(name: str, experiment: Experiment, rows: Sequence[TableRow], folder: Path) -> list[Path]:
    """Draws an experiment as `NAME.png`, and confusion matrices or a grid where it has them; returns the paths."""
    if not any(row["measured"] for row in rows):
        return []
    title = f"{experiment.title} (report section {experiment.section})"
    paths = [folder / f"{name}.png"]
    comparison(rows, title, paths[0])
    if name == "class_weights":
        paths.append(folder / f"{name}_confusion.png")
        confusion_matrices(rows, title, paths[-1])
    if name == "cleaning":
        paths.append(folder / f"{name}_grid.png")
        cleaning_grid(rows, "Tolerances of cleaning (report section 15)", paths[-1])
    return paths


def comparison(rows: Sequence[TableRow], title: str, path: Path) -> None:
    """Loss and accuracy of each row: published hollow, measured filled, with the accuracy's 95 % interval."""
    figure = Figure(figsize=(10, 1.5 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, unit in zip(panels, ("loss", "accuracy"), ("nats", "fraction"), strict=True):
        for y, row in enumerate(rows):
            published, measured = row["published"][key], row["measured"]
            if published is not None:
                axes.plot(published, y, "o", color="black", fillstyle="none", label="report")
            if measured is not None:
                axes.plot(measured[key], y, "o", color="black", label="measured")
                if key == "accuracy":
                    axes.plot(measured["interval"], [y, y], color="0.5", label="95 % interval")
        axes.set(xlabel=f"validation {key} ({unit})", yticks=range(len(rows)))
        axes.set_yticklabels([row["title"] for row in rows])
        axes.grid(axis="x", color="0.9")
    panels[0].invert_yaxis()
    handles, labels = panels[1].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(list(unique.values()), list(unique), loc="outside lower center", ncols=3)
    save(figure, title, path)


def confusion_matrices(rows: Sequence[TableRow], title: str, path: Path) -> None:
    """Confusion matrices side by side (report's figure 4): counts, shaded by the fraction of the true type."""
    measured = [row for row in rows if row["measured"] and row["measured"]["confusion_matrix"]]
    figure = Figure(figsize=(2.6 * len(measured), 3.2), layout="constrained")
    for axes, row in zip(figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True):
        draw_confusion(axes, np.array(row["measured"]["confusion_matrix"]), "123")
        axes.set_title(row["title"], fontsize=9)
    save(figure, title, path)


def cleaning_grid(rows: Sequence[TableRow], title: str, path: Path) -> None:
    """Loss over both tolerances of cleaning (report section 15)."""
    loss_of = {row["systems"][0]: row["measured"]["loss"] for row in rows if row["measured"]}
    losses = np.array([[loss_of.get(cleaning_variant(f, s), np.nan) for s in SHARPNESSES] for f in KEEP_FRACTIONS])
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(losses, cmap="cividis")
    middle = (np.nanmin(losses) + np.nanmax(losses)) / 2
    for (row, column), loss in np.ndenumerate(losses):
        axes.text(column, row, f"{loss:.3f}", ha="center", va="center", color="black" if loss > middle else "white")
    axes.set(xlabel="multiple of the least sharpness", ylabel="fraction closest in colour")
    axes.set_xticks(range(len(SHARPNESSES)), [f"{s:g}" for s in SHARPNESSES])
    axes.set_yticks(range(len(KEEP_FRACTIONS)), [f"{f:g}" for f in KEEP_FRACTIONS])
    figure.colorbar(image, label="validation loss (nats)")
    save(figure, title, path)


def _cells(row: TableRow) -> list[str]:
    published, measured = row["published"], row["measured"]
    title = row["title"] + (" (random backbone)" if measured and measured["random_backbone"] else "")
    cells = [title, _format(published["loss"], ".4g"), _format(published["accuracy"], ".1%")]
    if published["train_accuracy"] is not None:
        cells[2] += f" (training {published['train_accuracy']:.0%})"
    if published["note"]:
        cells[1] += f" ({published['note']})"
    if measured is None:
        reason = "" if row["reason"] is None else f": {_shorten(row['reason'])}"
        return [*cells, f"not run{reason}", "", "", "", ""]
    low, high = measured["interval"]
    loss, accuracy = f"{measured['loss']:.3f}", f"{measured['accuracy']:.1%}"
    if measured["seeds"] > 1:
        loss += f" ± {measured['loss_sd']:.3f}"
        accuracy += f" ± {100 * measured['accuracy_sd']:.1f}"
    accuracy += f" ({100 * low:.1f} to {100 * high:.1f})"
    train_accuracy = _format(measured["train_accuracy"], ".1%")
    recalls = " / ".join(f"{recall:.0%}" for recall in _recalls(measured)) if measured["num_classes"] == 3 else ""
    epochs = ", ".join(str(epoch) for epoch in measured["epoch"] if epoch is not None)
    if row["reason"] is not None:
        epochs += f" (a seed failed: {_shorten(row['reason'])})"
    return [*cells, loss, accuracy, train_accuracy, recalls, epochs]


def _shorten(reason: str) -> str:
    """The beginning of a reason, on one line of a table; the JSON file has the whole."""
    text = " ".join(reason.split()).replace("|", "/")
    return text if len(text) <= 240 else f"{text[:240]} ..."


def _format(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _recalls(measured: Mapping[str, Any]) -> list[float]:
    matrix = measured["confusion_matrix"]
    return [] if matrix is None else (np.diag(matrix) / np.maximum(np.sum(matrix, axis=1), 1)).tolist()


def _within_best(rows: Sequence[TableRow], key: str) -> str:
    """A sentence on which accuracies, 'published' or 'measured', cannot be told from the table's best."""
    compared = [row for row in rows if row["within_best"][key] is not None]
    if not compared:
        return ""
    best = max(compared, key=lambda row: row[key]["accuracy"])
    num_images = PUBLISHED_IMAGES if key == "published" else best["measured"]["num_examples"]
    others = [row for row in compared if row is not best]
    titles = [row["title"] for row in others if row["within_best"][key]]
    listed = f": {', '.join(titles)}" if titles else ""
    return (
        f"{key.capitalize()}: {len(titles)} of {len(others)} other accuracies lie inside the 95 % interval of the "
        f"best, {best['title']} ({best[key]['accuracy']:.1%} on {num_images} photographs){listed}.\n"
    )
