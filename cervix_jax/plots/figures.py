"""Figures of a run: learning curves, confusion matrix (report's figure 4), reliability, risk and coverage, photographs.

Colours come from maps that survive colour blindness and grey printing; every figure names the run.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from cervix_jax.atomic import open_atomic
from cervix_jax.csv_files import printable

_CURVES = (("black", "o", -0.01), ("0.6", "s", 0.01))  # colour, marker and shift of bars of reliability curves


def learning_curves(
    rows: Sequence[Mapping[str, Any]], epoch: int, title: str, path: Path, *, averaged: bool = False
) -> None:
    """Loss and accuracy of training and validation over epochs, the epoch of the weights that are used marked.

    Args:
      rows: lines of `metrics.jsonl`, one or more; what they lack is a gap in the curves.
      epoch: of the weights that are used.
      title: above the figure.
      path: where it is written; the suffix is the format.
      averaged: the moving average of the parameters is used, not those as trained.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    used = "ema_validation" if averaged else "validation"
    lines = {"train": ("training", "0.5", "--"), "validation": ("validation", "black", "-")}
    if any("ema_validation_loss" in row for row in rows):
        lines["validation"] = ("validation", "black" if not averaged else "0.7", "-")
        lines["ema_validation"] = ("validation, moving average", "black" if averaged else "0.7", "-.")
    for axes, name, unit in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "fraction"), strict=True):
        for prefix, (label, color, style) in lines.items():
            axes.plot(epochs, [_number(row, f"{prefix}_{name}") for row in rows], style, color=color, label=label)
        of_used = [_number(row, f"{used}_{name}") for row in rows if row["epoch"] == epoch] or [np.nan]
        axes.plot(epoch, of_used[-1], "o", color="black", label=f"used: epoch {epoch}")
        axes.set(xlabel="epoch", ylabel=f"{name} ({unit})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)
    save(figure, title, path)


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return np.nan if value is None else float(value)


def confusion_matrix(matrix: Int[np.ndarray, "k k"], class_names: Sequence[str], title: str, path: Path) -> None:
    """Counts, shaded by the fraction of the true class (report's figure 4).

    Args:
      matrix: rows true, columns predicted.
      class_names: k names.
      title: above the figure.
      path: where it is written.
    """
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(draw_confusion(axes, matrix, class_names), label="fraction of the true type")
    save(figure, title, path)


def draw_confusion(axes: Axes, matrix: Int[np.ndarray, "k k"], class_names: Sequence[str]) -> AxesImage:
    """Draws a confusion matrix, see `confusion_matrix`, and returns the image, for a colour bar."""
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = axes.imshow(fractions, cmap="cividis", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        text = f"{count}\n{fractions[row, column]:.0%}"
        axes.text(
            column, row, text, ha="center", va="center", color="black" if fractions[row, column] > 0.5 else "white"
        )
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(class_names)), yticks=range(len(class_names)))
    axes.set_xticklabels(class_names)
    axes.set_yticklabels(class_names)
    return shown


def reliability(curves: Mapping[str, Sequence[Mapping[str, float | int]]], title: str, path: Path) -> None:
    """Accuracy against confidence with 95 % intervals (Wilson), bin by bin, and how many photographs each bin has.

    Args:
      curves: `training.metrics.reliability` by what it is of, such as 'before the temperature'; at most two.
      title: above the figure.
      path: where it is written.
    """
    figure = Figure(figsize=(4.6, 5.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], "--", color="0.5", label="as confident as accurate")
    for (label, bins), (color, marker, shift) in zip(curves.items(), _CURVES, strict=False):
        confidence, accuracy, count = (
            np.array([row[key] for row in bins]) for key in ("confidence", "accuracy", "count")
        )
        correct = np.round(accuracy * count).astype(int)
        limits = [binomtest(k, n).proportion_ci(0.95, "wilson") for k, n in zip(correct, count, strict=True)]
        error_bars = np.abs(np.array(limits).T - accuracy)
        style = {"fmt": marker, "color": color, "capsize": 2, "markersize": 5}
        above.errorbar(confidence, accuracy, error_bars, label=f"{label} ({count.sum()} photographs)", **style)
        below.bar(confidence + shift, count, width=0.02, color=color)
    above.set(ylabel="accuracy (fraction)", ylim=(0, 1.02), xlim=(0, 1.02))
    below.set(xlabel="confidence (probability of the likeliest type)", ylabel="photographs")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    save(figure, title, path)


def risk_coverage(curves: Mapping[str, Sequence[Mapping[str, float]]], title: str, path: Path) -> None:
    """Error rate among the photographs that are decided, against the fraction that is.

    Args:
      curves: `inference.clinical_metrics.risk_coverage` by system; the first is drawn above the others.
      title: above the figure.
      path: where it is written.
    """
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, (name, curve) in reversed(list(enumerate(curves.items()))):
        color = "black" if i == 0 else matplotlib.colormaps["cividis"](i / len(curves))
        coverage, risk = ([row[key] for row in curve] for key in ("coverage", "risk"))
        axes.plot(coverage, risk, "o-" if i == 0 else ".--", color=color, label=fit(name, 4.0, 8))
    if len(curves) > 1:
        axes.legend(fontsize=8)
    axes.set(xlabel="coverage (fraction decided, surest first)", ylabel="risk (error rate)", xlim=(0, 1.02))
    axes.set_ylim(bottom=0)
    save(figure, title, path)


def predictions(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    class_names: Sequence[str],
    title: str,
    path: Path,
    *,
    per_type: int = 5,
) -> None:
    """Photographs in a row for each true type, with predicted type and probability (report's figure 2).

    Args:
      images: RGB.
      probabilities: rows sum to one.
      labels: true types, 0 to k - 1.
      class_names: k names.
      title: above the figure.
      path: where it is written.
      per_type: photographs in a row; the first ones of the data set, not chosen by their result.
    """
    figure = Figure(figsize=(2 * per_type, 2.9 * len(class_names)), layout="constrained")
    grid = figure.subplots(len(class_names), per_type, squeeze=False)
    for label, (name, row) in enumerate(zip(class_names, grid, strict=True)):
        chosen = np.flatnonzero(labels == label)[:per_type]
        for axes in row:
            axes.set_axis_off()
        for axes, i in zip(row, chosen, strict=False):
            predicted = int(probabilities[i].argmax())
            axes.imshow(images[i])
            verdict = "right" if predicted == label else "wrong"
            text = f"true {name}\n{verdict}: {class_names[predicted]} {probabilities[i, predicted]:.0%}"
            axes.set_title(text, fontsize=9)
    save(figure, title, path)


def escape(text: str) -> str:
    """Text that matplotlib shows as it is: dollar signs in a file's name are no mathematics."""
    return printable(text).replace("$", r"\$")


def fit(text: str, inches: float, fontsize: int) -> str:
    """The text in lines that are no wider than a figure or panel, escaped."""
    columns = max(
        8, int(inches * 72 / (0.63 * fontsize))
    )  # a character is about 0.63 of the size wide, if names are long
    lines = [line for each in text.split("\n") for line in textwrap.wrap(each, columns) or [""]]
    return escape("\n".join(lines))


def save(figure: Figure, title: str, path: Path) -> None:
    """Writes a figure with its title; the suffix is the format, and the folder is made if missing."""
    figure.suptitle(fit(title, figure.get_figwidth(), 10), fontsize=10)
    FigureCanvasAgg(figure)  # no display and no global state, whatever matplotlib's configuration says
    with open_atomic(path, "wb") as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:])
