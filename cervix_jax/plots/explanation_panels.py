"""Explanations as figures: one a photograph, and contact sheets by true and predicted type (report's figures 7 and 8).

Evidence is a colour map of rising brightness (inferno) over the photograph in grey: it survives colour blindness and
grey printing, and is never confused with the colours of tissue. Without evidence the bare photograph is shown.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cervix_jax.explainers.methods import METHODS, Explanation, HeatMap
from cervix_jax.images.boxes import LocatedBox, draw_boxes
from cervix_jax.plots.figures import fit, save

NO_EVIDENCE, NOT_FINITE = "no evidence", "not finite"
_COLOUR_MAP = "inferno"
_PER_GROUP = 6  # photographs of a group that a contact sheet shows
_COLUMNS, _SIDE = 6, 1.9  # of a contact sheet: pictures in a row, their width in inches
_TOP_PERCENTILE = 99.5  # of a map, that is shown as 1: single pixels of saliency are far above the rest
_SCALE = ScalarMappable(Normalize(0, 1), _COLOUR_MAP)
_NOTE = "Research software, not for clinical decisions. Evidence shows what the network used, not where disease is."

Picture = UInt8[np.ndarray, "h w 3"]


def overlay(picture: Picture, heat: HeatMap) -> Float[np.ndarray, "h w 3"] | None:
    """The photograph in grey with the evidence on it, 0 to 1; None where there is no evidence.

    Args:
      picture: RGB.
      heat: of the same height and width, none negative.
    """
    strength = normalise(heat)
    if strength is None:
        return None
    grey = np.repeat(picture.mean(axis=2, keepdims=True) / 255, 3, axis=2)
    colours = matplotlib.colormaps[_COLOUR_MAP](strength)[..., :3]
    opacity = 0.25 + 0.65 * strength[..., None]
    return (1 - opacity) * grey + opacity * colours


def normalise(heat: HeatMap) -> HeatMap | None:
    """A map between 0 and 1, 1 at its strongest half per cent; None if it is 0 everywhere or not finite."""
    if not np.isfinite(heat).all() or heat.max() <= 0:
        return None
    top = np.percentile(heat, _TOP_PERCENTILE)
    return np.clip(heat / (top if top > 0 else heat.max()), 0, 1)


def no_evidence_reason(heat: HeatMap) -> str | None:
    """Why `overlay` is None; None if it is not."""
    if normalise(heat) is not None:
        return None
    return NO_EVIDENCE if np.isfinite(heat).all() else NOT_FINITE


def explanation_figure(
    picture: Picture,
    explanation: Explanation,
    class_names: Sequence[str],
    title: str,
    path: Path,
    *,
    score_name: str,
    true_name: str | None = None,
    located: Sequence[LocatedBox] = (),
) -> None:
    """Photograph, with the cervix outlined if it was located, probabilities and a panel for each method.

    Args:
      picture: RGB, upright, as stored.
      explanation: of this photograph.
      class_names: of the probabilities.
      title: names photograph and run.
      path: where it is written; the suffix is the format.
      score_name: which score of the type is explained.
      true_name: the true type, if it is known.
      located: the boxes that the predictor looked into.
    """
    columns = 1 + (len(explanation.heat) + 1) // 2
    height, width = picture.shape[:2]
    panel = 2.6
    size = (panel * columns + 0.9, 2 * panel * min(1.6, max(0.7, height / width)) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2, columns, squeeze=False)
    grid[0, 0].imshow(draw_boxes(picture, [found.box for found in located]))
    panel_title = f"true {_readable(true_name)}" if true_name else "photograph"
    confidence = "".join(f"\ncervix, confidence {found.confidence:.2f}" for found in located)
    grid[0, 0].set_title(panel_title + confidence, fontsize=9)
    _probabilities(grid[1, 0], explanation, class_names)
    panels = [axes for row in grid for axes in row[1:]]
    for axes in (grid[0, 0], *panels):
        axes.set_axis_off()
    for axes, (name, heat) in zip(panels, explanation.heat.items(), strict=False):
        _evidence(axes, picture, heat, METHODS[name].title, fontsize=9)
    figure.colorbar(_SCALE, ax=panels, shrink=0.7, label="evidence, 1: strongest of the panel")
    explained = _readable(class_names[explanation.class_index])
    note = fit(f"Evidence for {explained} ({score_name}).\n{_NOTE}", size[0], 7)
    figure.supxlabel(note, fontsize=7)
    save(figure, title, path)


@dataclasses.dataclass
class PhotographGroup:
    """Photographs of one true and one predicted type, of which a contact sheet shows the first.

    Attributes:
      shown: name, picture and explanation of each that is shown.
      count: how many there are.
    """

    shown: list[tuple[str, Picture, Explanation]] = dataclasses.field(default_factory=list)
    count: int = 0

    def add(self, name: str, picture: Picture, explanation: Explanation) -> None:
        """Adds a photograph, shown if there is room."""
        self.count += 1
        if len(self.shown) < _PER_GROUP:
            self.shown.append((name, picture, explanation))


def contact_sheet(groups: Mapping[str, PhotographGroup], method: str, title: str, path: Path) -> None:
    """Evidence by one method: the first photographs of each group, group after group; the others are counted.

    Args:
      groups: by title.
      method: a name in `METHODS`.
      title: above the sheet.
      path: where it is written; the suffix is the format.
    """
    shown = [(name, *entry) for name, group in groups.items() for entry in group.shown]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    tallest = min(2.0, max(picture.shape[0] / picture.shape[1] for _, _, picture, _ in shown))
    size = (_SIDE * columns + 1.3, (_SIDE * tallest + 0.6) * rows + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (name, photograph, picture, explanation) in zip(grid.ravel(), shown, strict=False):
        group = f"{_readable(name)} ({groups[name].count})"
        _evidence(axes, picture, explanation.heat[method], fit(f"{group}\n{photograph}", _SIDE, 7), fontsize=7)
    figure.colorbar(_SCALE, ax=grid, shrink=0.6, aspect=40, label="evidence, 1: strongest of the picture")
    save(figure, f"{title}; in brackets the number of such photographs", path)


def _probabilities(axes: Axes, explanation: Explanation, class_names: Sequence[str]) -> None:
    rows = list(range(len(class_names)))
    bars = axes.barh(rows, explanation.probabilities, color="0.6")
    bars[explanation.class_index].set_color("black")
    for row, probability in zip(rows, explanation.probabilities, strict=True):
        inside = probability > 0.8
        x, color = (probability - 0.02, "white") if inside else (probability + 0.02, "black")
        side = "right" if inside else "left"
        axes.text(x, row, f"{probability:.0%}", va="center", ha=side, color=color, fontsize=8)
    axes.set_yticks(rows, [_readable(name) for name in class_names], fontsize=8)
    axes.set(xlim=(0, 1), xticks=(0, 0.5, 1))
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("probability (black: explained)", fontsize=7)
    axes.invert_yaxis()
    axes.set_box_aspect(0.6)


def _evidence(axes: Axes, picture: Picture, heat: HeatMap, title: str, fontsize: int) -> None:
    evidence = overlay(picture, heat)
    axes.imshow(picture if evidence is None else evidence)
    axes.set_title(title if evidence is not None else f"{title}: {no_evidence_reason(heat)}", fontsize=fontsize)


def _readable(name: str) -> str:
    return name.replace("_", " ")
