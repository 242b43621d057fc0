"""Maps at the pixels of a network, back on the photograph: the inverse of cropping and resizing."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from cervix_jax.inference.predictor import View

Box = tuple[float, float, float, float]  # left, top, right, bottom


def seen(view: View, size: tuple[int, int]) -> tuple[Box, tuple[int, int, int, int]]:
    """Which part of a photograph a run sees, and where in its input that lies.

    Args:
      view: how the run sees photographs.
      size: (height, width) of the photograph, upright, in pixels.

    Returns:
      The part as fractions of the photograph's sides, and its place in the input in pixels: all of it but for the black
      that 'fit' pads with.
    """
    height, width = size
    left, top = round(width * (1 - view.crop) / 2), round(height * (1 - view.crop) / 2)
    right, bottom = max(left + 1, width - left), max(top + 1, height - top)
    part = (left / width, top / height, right / width, bottom / height)
    rows, columns = view.size
    if view.resize == "stretch":
        return part, (0, 0, columns, rows)
    scale = min(rows / (bottom - top), columns / (right - left))
    inner_columns, inner_rows = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    x, y = (columns - inner_columns) // 2, (rows - inner_rows) // 2
    return part, (x, y, x + inner_columns, y + inner_rows)


def on_photograph(
    heat: Float[np.ndarray, "h w"], view: View, size: tuple[int, int], *, keep_sum: bool = False
) -> Float[np.ndarray, "H W"]:
    """A map in the frame of the photograph; 0 where the run does not look.

    Args:
      heat: at the pixels that the run sees.
      view: how it sees.
      size: (height, width) of the photograph as it was cropped, and of the result, in pixels.
      keep_sum: the map's numbers are shares of a whole, which they sum to on the photograph too; else values at places.
    """
    part, (x0, y0, x1, y1) = seen(view, size)
    height, width = size
    left, right = (round(fraction * width) for fraction in part[::2])
    top, bottom = (round(fraction * height) for fraction in part[1::2])
    inner = Image.fromarray(np.asarray(heat, np.float32)[y0:y1, x0:x1])
    resized = inner.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
    result = np.zeros(size, np.float32)
    looked_at = result[top : top + resized.height, left : left + resized.width]
    looked_at[...] = np.asarray(resized)[: looked_at.shape[0], : looked_at.shape[1]]
    if keep_sum:
        looked_at *= (x1 - x0) * (y1 - y0) / looked_at.size
    return result
