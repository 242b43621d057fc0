"""Boxes around the cervix, as fractions of the sides of the upright photograph: (left, top, right, bottom), 0 to 1.

Fractions survive every resizing, so a box that was drawn on a small copy fits the camera's original. The functions work
on NumPy and JAX arrays alike (Python array API), so that the loss and the metrics of a localiser share them.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

WHOLE = (0.0, 0.0, 1.0, 1.0)  # the box of the whole photograph
_COLOURS = ("#56b4e9", "#f0e442", "#009e73")  # of outlines, on tissue; apart for colour-blind people (Okabe & Ito 2008)


Box = tuple[float, float, float, float]  # left, top, right, bottom


class LocatedBox(NamedTuple):
    """A box that a localiser has found.

    Attributes:
      box: left, top, right, bottom.
      confidence: the IoU that the localiser expects with the box that a person would draw, 0 to 1.
    """

    box: Box
    confidence: float


def area(boxes: Any) -> Any:
    """Area of boxes [... 4] as a fraction of the photograph; 0 where right <= left or bottom <= top."""
    xp = boxes.__array_namespace__()
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0 * boxes[..., :2])
    return sides[..., 0] * sides[..., 1]


def iou(a: Any, b: Any) -> Any:
    """Intersection over union of boxes [... 4], 0 to 1; 0 where both are empty."""
    intersection = _area_of_intersection(a, b)
    return intersection / _positive(area(a) + area(b) - intersection)


def generalized_iou(a: Any, b: Any) -> Any:
    """IoU less the share of the enclosing box that neither covers, -1 to 1 (Rezatofighi et al. 2019, algorithm 1).

    Unlike `iou` it has a gradient for boxes that do not touch.
    """
    xp = a.__array_namespace__()
    intersection = _area_of_intersection(a, b)
    union = area(a) + area(b) - intersection
    corners = [xp.minimum(a[..., :2], b[..., :2]), xp.maximum(a[..., 2:], b[..., 2:])]
    hull = area(xp.concat(corners, axis=-1))
    return intersection / _positive(union) - (hull - union) / _positive(hull)


def crop_region(box: Box, size: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    """The part of a photograph to crop for a box: the box with a margin, inside the photograph, at least one pixel.

    Args:
      box: fractions.
      size: (height, width) of the photograph in pixels.
      margin: added on each side, as a fraction of the box's own height or width.

    Returns:
      Left, top, right, bottom in pixels.
    """
    height, width = size
    left, top, right, bottom = box
    center = ((left + right) / 2 * width, (top + bottom) / 2 * height)
    across, down = (right - left) * width * (1 + 2 * margin), (bottom - top) * height * (1 + 2 * margin)
    left_pixel, right_pixel = _interval(center[0], across, width)
    top_pixel, bottom_pixel = _interval(center[1], down, height)
    return left_pixel, top_pixel, right_pixel, bottom_pixel


def bounding_box(mask: Bool[np.ndarray, "h w"]) -> Box | None:
    """The smallest box that holds all True pixels of a mask; None if there is none."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return left / width, top / height, right / width, bottom / height


def mirrored(boxes: Any, *, horizontal: bool = False, vertical: bool = False) -> Any:
    """Boxes [... 4] of the mirrored photograph."""
    xp = boxes.__array_namespace__()
    left, top, right, bottom = (boxes[..., i] for i in range(4))
    if horizontal:
        left, right = 1 - right, 1 - left
    if vertical:
        top, bottom = 1 - bottom, 1 - top
    return xp.stack([left, top, right, bottom], axis=-1)


def draw_boxes(image: UInt8[np.ndarray, "h w 3"], boxes: Sequence[Sequence[float]]) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of an image with the outlines of boxes, each in a colour of its own; those with NaN are left out."""
    picture = Image.fromarray(image)
    pen, (height, width) = ImageDraw.Draw(picture), image.shape[:2]
    for i, (left, top, right, bottom) in enumerate(boxes):
        if not math.isnan(left):
            corners = (left * (width - 1), top * (height - 1), right * (width - 1), bottom * (height - 1))
            pen.rectangle(corners, outline=_COLOURS[i % len(_COLOURS)], width=max(1, width // 100))
    return np.asarray(picture)


def _area_of_intersection(a: Any, b: Any) -> Any:
    xp = a.__array_namespace__()
    return area(xp.concat([xp.maximum(a[..., :2], b[..., :2]), xp.minimum(a[..., 2:], b[..., 2:])], axis=-1))


def _positive(x: Any) -> Any:
    return x + (x <= 0)


def _interval(center: float, length: float, limit: int) -> tuple[int, int]:
    """Whole pixels [start, stop) of about this length around a centre, moved and then cut to fit into [0, limit)."""
    length = min(max(length, 1.0), limit)
    start = min(max(center - length / 2, 0.0), limit - length)
    first = min(round(start), limit - 1)
    return first, min(max(first + 1, round(start + length)), limit)
