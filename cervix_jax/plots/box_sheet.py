"""The photographs that a localiser gets most wrong, with its box and the drawn one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from cervix_jax.images.boxes import draw_boxes, iou
from cervix_jax.plots.figures import fit, save

SHOWN, COLUMNS = 24, 6


def worst_boxes(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    boxes: Float[np.ndarray, "n 5"],
    drawn: Float[np.ndarray, "n 4"],
    names: list[str],
    title: str,
    path: Path,
) -> None:
    """Photographs of least IoU first, with IoU and confidence below; found blue, drawn yellow.

    Args:
      images: RGB.
      boxes: that were found, and their confidence.
      drawn: by people.
      names: of the photographs.
      title: of the figure.
      path: where it is written.
    """
    overlap = iou(boxes[:, :4], drawn)
    worst = np.argsort(overlap)[:SHOWN].tolist()
    rows = -(-len(worst) // COLUMNS)
    figure = Figure(figsize=(2 * COLUMNS, 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, i in zip(grid, worst, strict=False):
        axes.imshow(draw_boxes(images[i], [boxes[i, :4].tolist(), drawn[i].tolist()]))
        axes.set_title(fit(f"{names[i]}\nIoU {overlap[i]:.2f}, confidence {boxes[i, 4]:.2f}", 2.0, 7), fontsize=7)
    save(figure, f"{title}: least overlap first; found blue, drawn yellow", path)
