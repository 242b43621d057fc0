"""Lines of a table as Markdown, and as pictures where these read better."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cervix_jax.experiments.report_tables import PUBLISHED_IMAGES, Experiment
from cervix_jax.experiments.variants import KEEP_FRACTIONS, SHARPNESSES, kept
from cervix_jax.plots.figures import draw_confusion, save

Line = Mapping[str, Any]  # of `results.rows`

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


def markdown(experiment: Experiment, lines: Sequence[Line], conditions: str) -> str:
    """A page: what was measured how, the table, and which differences are larger than chance.

    Args:
      experiment: the table.
      lines: of it.
      conditions: a sentence on data, size, epochs and seeds.
    """
    table = [_HEADER, ["---"] * len(_HEADER), *map(_cells, lines)]
    text = [f"# {experiment.title} (report section {experiment.section})", "", conditions, ""]
    text += ["| " + " | ".join(cells) + " |" for cells in table]
    text += ["", *(sentence for kind in ("published", "measured") if (sentence := _within(lines, kind)))]
    return "\n".join(text) + "\n"


def _cells(line: Line) -> list[str]:
    published, measured = line["published"], line["measured"]
    title = line["title"] + (" (random backbone)" if measured and measured["random_backbone"] else "")
    cells = [title, _number(published["loss"], ".4g"), _number(published["accuracy"], ".1%")]
    if published["train_accuracy"] is not None:
        cells[2] += f" (training {published['train_accuracy']:.0%})"
    if published["note"]:
        cells[1] += f" ({published['note']})"
    if measured is None:
        why = "" if line["reason"] is None else f": {_short(line['reason'])}"
        return [*cells, f"not run{why}", "", "", "", ""]
    low, high = measured["interval"]
    several = measured["seeds"] > 1
    loss = f"{measured['loss']:.3f}" + (f" ± {measured['loss_sd']:.3f}" if several else "")
    accuracy = f"{measured['accuracy']:.1%}" + (f" ± {100 * measured['accuracy_sd']:.1f}" if several else "")
    epochs = ", ".join(str(epoch) for epoch in measured["epoch"] if epoch is not None)
    recall = " / ".join(f"{share:.0%}" for share in _recall(measured)) if measured["num_classes"] == 3 else ""
    if line["reason"] is not None:
        epochs += f" (a seed failed: {_short(line['reason'])})"
    trained = _number(measured["train_accuracy"], ".1%")
    return [*cells, loss, f"{accuracy} ({100 * low:.1f} to {100 * high:.1f})", trained, recall, epochs]


def _short(reason: str) -> str:
    """The beginning of a reason, which the JSON file has whole, in one line of a table."""
    text = " ".join(reason.split()).replace("|", "/")
    return text if len(text) <= 240 else f"{text[:240]} ..."


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _recall(measured: Mapping[str, Any]) -> list[float]:
    matrix = measured["confusion_matrix"]
    return [] if matrix is None else (np.diag(matrix) / np.maximum(np.sum(matrix, axis=1), 1)).tolist()


def _within(lines: Sequence[Line], kind: str) -> str:
    """Which accuracies cannot be told from the table's best."""
    known = [line for line in lines if line["within_best"][kind] is not None]
    if not known:
        return ""
    best = max(known, key=lambda line: line[kind]["accuracy"])
    images = PUBLISHED_IMAGES if kind == "published" else best["measured"]["num_examples"]
    others = [line for line in known if line is not best]
    inside = [line["title"] for line in others if line["within_best"][kind]]
    which = f": {', '.join(inside)}" if inside else ""
    return (
        f"{kind.capitalize()}: {len(inside)} of {len(others)} other accuracies lie inside the 95 % interval of the "
        f"best, {best['title']} ({best[kind]['accuracy']:.1%} on {images} photographs){which}.\n"
    )


def figures(name: str, experiment: Experiment, lines: Sequence[Line], folder: Path) -> list[Path]:
    """Draws an experiment as `NAME.png`, and what else reads better as a picture; returns the paths."""
    if not any(line["measured"] for line in lines):
        return []
    title = f"{experiment.title} (report section {experiment.section})"
    paths = [folder / f"{name}.png"]
    comparison(lines, title, paths[0])
    if name == "class_weights":
        paths.append(folder / f"{name}_confusion.png")
        confusion(lines, title, paths[-1])
    if name == "cleaning":
        paths.append(folder / f"{name}_grid.png")
        grid(lines, "Tolerances of cleaning (report section 15)", paths[-1])
    return paths


def comparison(lines: Sequence[Line], title: str, path: Path) -> None:
    """Loss and accuracy of each system: published hollow, measured filled, with the accuracy's 95 % interval."""
    figure = Figure(figsize=(10, 1.5 + 0.32 * len(lines)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, unit in zip(panels, ("loss", "accuracy"), ("nats", "fraction"), strict=True):
        for y, line in enumerate(lines):
            published, measured = line["published"][key], line["measured"]
            if published is not None:
                axes.plot(published, y, "o", color="black", fillstyle="none", label="report")
            if measured is not None:
                axes.plot(measured[key], y, "o", color="black", label="measured")
                if key == "accuracy":
                    axes.plot(measured["interval"], [y, y], color="0.5", label="95 % interval")
        axes.set(xlabel=f"validation {key} ({unit})", yticks=range(len(lines)))
        axes.set_yticklabels([line["title"] for line in lines])
        axes.grid(axis="x", color="0.9")
    panels[0].invert_yaxis()
    handles, labels = panels[1].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(list(once.values()), list(once), loc="outside lower center", ncols=3)
    save(figure, title, path)


def confusion(lines: Sequence[Line], title: str, path: Path) -> None:
    """Confusion matrices side by side (report's figure 4): counts, shades by the share of the true type."""
    known = [line for line in lines if line["measured"] and line["measured"]["confusion_matrix"]]
    figure = Figure(figsize=(2.6 * len(known), 3.2), layout="constrained")
    for axes, line in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
        draw_confusion(axes, np.array(line["measured"]["confusion_matrix"]), "123")
        axes.set_title(line["title"], fontsize=9)
    save(figure, title, path)


def grid(lines: Sequence[Line], title: str, path: Path) -> None:
    """Loss over both tolerances of cleaning (report section 15)."""
    losses = {line["systems"][0]: line["measured"]["loss"] for line in lines if line["measured"]}
    cells = [[losses.get(kept(f, s), np.nan) for s in SHARPNESSES] for f in KEEP_FRACTIONS]
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(np.array(cells), cmap="cividis")
    for (row, column), loss in np.ndenumerate(np.array(cells)):
        color = "black" if loss > np.nanmean([np.nanmin(cells), np.nanmax(cells)]) else "white"
        axes.text(column, row, f"{loss:.3f}", ha="center", va="center", color=color)
    axes.set(xlabel="times the least sharpness", ylabel="share closest in colours")
    axes.set_xticks(range(len(SHARPNESSES)), [f"{s:g}" for s in SHARPNESSES])
    axes.set_yticks(range(len(KEEP_FRACTIONS)), [f"{f:g}" for f in KEEP_FRACTIONS])
    figure.colorbar(shown, label="validation loss (nats)")
    save(figure, title, path)
