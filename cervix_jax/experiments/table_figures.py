"""Figures of the report's tables; they read in grey."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cervix_jax.experiments.rendering import TableRow, sections
from cervix_jax.experiments.report_tables import EXPERIMENTS, Experiment
from cervix_jax.experiments.results import CANNOT_TELL
from cervix_jax.experiments.system_results import SystemResult
from cervix_jax.experiments.variants import KEEP_FRACTIONS, SHARPNESSES, cleaning_variant
from cervix_jax.plots.figures import draw_confusion, save


def draw_table(name: str, experiment: Experiment, rows: Sequence[TableRow], folder: Path) -> list[Path]:
    """Draws an experiment as `NAME.png`, and confusion matrices or a grid where it has them; returns the paths."""
    if not any(row["measured"] for row in rows):
        return []
    title = f"{experiment.title} ({sections(experiment)})"
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
    """Loss and accuracy of each row: published hollow, measured filled, with the 95 % interval."""
    figure = Figure(figsize=(10, 1.5 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, unit in zip(panels, ("loss", "accuracy"), ("nats", "fraction"), strict=True):
        for y, row in enumerate(rows):
            reported, measured = published(row, key), row["measured"]
            if reported is not None:
                axes.plot(reported, y, "o", color="black", fillstyle="none", label="report")
            if measured is not None:
                axes.plot(measured[key], y, "o", color="black", label="measured")
                if measured[f"{key}_interval"]:
                    axes.plot(measured[f"{key}_interval"], [y, y], color="0.5", label="95 % interval")
        axes.set(xlabel=f"validation {key} ({unit})", yticks=range(len(rows)))
        axes.set_yticklabels([row["title"] for row in rows])
        axes.grid(axis="x", color="0.9")
    panels[0].invert_yaxis()
    _legend(figure, panels[1])
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
    middle = (np.nanmin(losses) + np.nanmax(losses)) / 2 if np.isfinite(losses).any() else 0
    for (row, column), loss in np.ndenumerate(losses):
        if np.isfinite(loss):
            axes.text(column, row, f"{loss:.3f}", ha="center", va="center", color="black" if loss > middle else "white")
    axes.set(xlabel="multiple of the least sharpness", ylabel="fraction closest in colour")
    axes.set_xticks(range(len(SHARPNESSES)), [f"{s:g}" for s in SHARPNESSES])
    axes.set_yticks(range(len(KEEP_FRACTIONS)), [f"{f:g}" for f in KEEP_FRACTIONS])
    figure.colorbar(image, label="validation loss (nats)")
    save(figure, title, path)


def forest(tables: Mapping[str, Sequence[TableRow]], path: Path) -> None:
    """Every row of every table in one picture: its loss less that of the table's base, published and measured.

    Args:
      tables: rows by experiment.
      path: PNG file to write.
    """
    lines: list[tuple[str, TableRow | None, float | None]] = []  # label, row, published loss of the base
    for name, rows in tables.items():
        base = next(row for row in rows if row["title"] == EXPERIMENTS[name].base)
        lines.append((f"{name.replace('_', ' ')}, against: {base['title']}", None, None))
        lines += [(row["title"], row, published(base, "loss")) for row in rows if _is_compared(row)]
    figure = Figure(figsize=(9, 0.6 + 0.19 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for y, (_, row, base_loss) in enumerate(lines):
        if row is None:
            axes.axhline(y, color="0.85", linewidth=9, zorder=0)
            continue
        reported = published(row, "loss")
        if reported is not None and base_loss is not None:
            axes.plot(reported - base_loss, y, "o", color="black", fillstyle="none", markersize=5, label="report")
        if row["measured"] and row["measured"]["difference"]:
            compared = row["measured"]["difference"]["loss"]
            decided = compared["verdict"] != CANNOT_TELL
            color, label = ("black", "measured, decided") if decided else ("0.6", "measured, cannot tell")
            axes.plot(compared["interval"], [y, y], color=color, linewidth=1.5)
            axes.plot(compared["value"], y, "s" if decided else "|", color=color, markersize=4.5, label=label)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xscale("symlog", linthresh=0.1, linscale=2)
    ticks = (-0.3, -0.1, -0.05, 0, 0.05, 0.1, 0.3)
    axes.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axes.set(xlabel="loss against the table's base (nats): left is better", ylim=(len(lines) - 0.5, -0.5))
    axes.set_yticks(range(len(lines)), [label for label, _, _ in lines], fontsize=7)
    for tick, (_, row, _) in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("normal" if row else "bold")
    axes.grid(axis="x", color="0.9")
    _legend(figure, axes)
    save(figure, "The report's comparisons, published and measured (95 % intervals)", path)


def learning_curves(result: SystemResult, path: Path) -> None:
    """Validation loss of each fold's run over the epochs, and its mean; the best epoch of each is marked."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    curves = [run.curve for run in result.runs]
    for curve in curves:
        axes.plot(range(1, len(curve) + 1), curve, color="0.7", linewidth=1, label="a fold")
        best = int(np.argmin(curve))
        axes.plot(best + 1, curve[best], "o", color="0.4", markersize=4, label="its best epoch")
    if len({len(curve) for curve in curves}) == 1:
        axes.plot(range(1, len(curves[0]) + 1), np.mean(curves, axis=0), color="black", label="mean")
    axes.set(xlabel="epoch", ylabel="validation loss (nats)")
    axes.grid(color="0.9")
    _legend(figure, axes)
    save(figure, f"Learning curves of {result.system}", path)


def _is_compared(row: TableRow) -> bool:
    return published(row, "loss") is not None or bool(row["measured"] and row["measured"]["difference"])


def published(row: TableRow, name: str) -> float | None:
    """The report's figure, if it is of the same photographs as its others."""
    return None if row["published"]["on_test_images"] else row["published"][name]


def _legend(figure: Figure, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(list(unique.values()), list(unique), loc="outside lower center", ncols=3)
