"""Figures of a run: learning curves, confusion matrix (report's figure 4), reliability, risk and coverage, photographs.

Colours come from maps that survive colour blindness and grey printing; every figure names the run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from cervix_jax.atomic import open_atomic


def learning_curves(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Loss and accuracy of training and validation over epochs, the best epoch marked.

    Args:
      rows: lines of `metrics.jsonl`.
      title: above the figure.
      path: where it is written; the suffix is the format.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    best = min(rows, key=lambda row: row["validation_loss"])
    for axes, name, unit in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "fraction"), strict=True):
        axes.plot(epochs, [row[f"train_{name}"] for row in rows], "--", color="0.5", label="training")
        axes.plot(epochs, [row[f"validation_{name}"] for row in rows], color="black", label="validation")
        axes.plot(best["epoch"], best[f"validation_{name}"], "o", color="black", label=f"best, epoch {best['epoch']}")
        axes.set(xlabel="epoch", ylabel=f"{name} ({unit})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    save(figure, title, path)


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


def reliability(bins: Sequence[Mapping[str, float | int]], title: str, path: Path) -> None:
    """Accuracy against confidence, bin by bin, and below it how many photographs each bin has.

    Args:
      bins: `training.metrics.reliability`.
      title: above the figure.
      path: where it is written.
    """
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidence, accuracy, count = (np.array([row[key] for row in bins]) for key in ("confidence", "accuracy", "count"))
    correct = np.round(accuracy * count).astype(int)
    limits = [binomtest(k, n).proportion_ci(0.95, "wilson") for k, n in zip(correct, count, strict=True)]
    error_bars = np.abs(np.array(limits).T - accuracy)
    above.plot([0, 1], [0, 1], "--", color="0.5", label="calibrated")
    above.errorbar(confidence, accuracy, error_bars, fmt="o", color="black", capsize=2, label="95 % interval (Wilson)")
    above.set(ylabel="accuracy (fraction)", ylim=(0, 1.02), xlim=(0, 1))
    above.legend(loc="upper left")
    below.bar(confidence, count, width=0.04, color="0.4")
    below.set(xlabel="confidence (probability of the likeliest type)", ylabel="photographs")
    save(figure, title, path)


def risk_coverage(curve: Sequence[Mapping[str, float]], title: str, path: Path) -> None:
    """Error rate among the photographs that are decided, against the fraction that is.

    Args:
      curve: `inference.clinical_metrics.risk_coverage`.
      title: above the figure.
      path: where it is written.
    """
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["coverage"] for row in curve], [row["risk"] for row in curve], "o-", color="black")
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
    """Escapes text for matplotlib, which would read a file's name with dollar signs as mathematics."""
    return text.replace("$", r"\$")


def save(figure: Figure, title: str, path: Path) -> None:
    """Writes a figure with its title; the suffix is the format, and the folder is made if missing."""
    figure.suptitle(escape(title), fontsize=10)
    FigureCanvasAgg(figure)  # no display and no global state, whatever matplotlib's configuration says
    with open_atomic(path, "wb") as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:])
