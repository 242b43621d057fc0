"""From a photograph to the pixels that a network sees, and from maps at these pixels back to the photograph."""

import dataclasses
import math

import ml_collections
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cervix_jax.images.boxes import Box, crop_region

Size = tuple[int, int]  # height, width in pixels

_FILTER = Image.Resampling.BILINEAR  # antialiased in Pillow: its support grows with the reduction


@dataclasses.dataclass(frozen=True)
class CropResize:
    """Crops a photograph to its centre, or to a box, and resizes it: what networks see of every photograph.

    Attributes:
      size: (height, width) of the result in pixels.
      crop: fraction of each side that is kept around the centre (report section 8), where no box is given.
      resize: 'stretch' changes the aspect if need be, as the report does; 'fit' keeps it and pads with black.
      margin: kept on each side of a box, as a fraction of its height or width.
    """

    size: Size
    crop: float = 1.0
    resize: str = "stretch"
    margin: float = 0.0

    @classmethod
    def from_config(cls, dataset: ml_collections.ConfigDict) -> "CropResize":
        """As `config.dataset` says; `dataset.crop` names boxes unless it is a number."""
        fraction = dataset.crop if isinstance(dataset.crop, int | float) else 1.0
        return cls(tuple(dataset.image_size), fraction, dataset.resize, dataset.crop_margin)

    def __call__(self, image: Image.Image, box: Box | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """Part of an RGB photograph at `size`.

        Args:
          image: the photograph, upright.
          box: to crop to, as fractions of its sides; its centre unless given.
        """
        region = self._region((image.height, image.width), box)
        if region != (0, 0, image.width, image.height):
            image = image.crop(region)
        left, top, right, bottom = self._placement((image.height, image.width))
        if (left, top, right, bottom) == (0, 0, self.size[1], self.size[0]):
            return np.asarray(image.resize(self.size[::-1], _FILTER))
        canvas = Image.new("RGB", self.size[::-1])
        canvas.paste(image.resize((right - left, bottom - top), _FILTER), (left, top))
        return np.asarray(canvas)

    def min_size(self, box: Box | None = None) -> Size:
        """The (height, width) in pixels at which a photograph may be decoded and the crop still loses no detail."""
        if box is None:
            return math.ceil(self.size[0] / self.crop), math.ceil(self.size[1] / self.crop)
        left, top, right, bottom = box
        return math.ceil(self.size[0] / max(bottom - top, 1e-3)), math.ceil(self.size[1] / max(right - left, 1e-3))

    def region(self, size: Size, box: Box | None = None) -> Box:
        """The part of a photograph of (height, width) pixels that is kept, as fractions of its sides."""
        height, width = size
        left, top, right, bottom = self._region(size, box)
        return left / width, top / height, right / width, bottom / height

    def to_photograph(
        self, heat: Float[np.ndarray, "h w"], size: Size, box: Box | None = None, *, keep_sum: bool = False
    ) -> Float[np.ndarray, "H W"]:
        """Maps values at the network's pixels back onto the photograph; 0 where the network does not look.

        Args:
          heat: values at the pixels of the result of this transform.
          size: (height, width) of the upright photograph, and of the returned map, in pixels.
          box: that the photograph was cropped to, if any.
          keep_sum: rescale so that the sum is kept, for attributions that add up to a score; else values are kept.
        """
        left, top, right, bottom = self._region(size, box)
        x0, y0, x1, y1 = self._placement((bottom - top, right - left))
        inner = Image.fromarray(np.asarray(heat, np.float32)[y0:y1, x0:x1])
        result = np.zeros(size, np.float32)
        visible = result[top:bottom, left:right]
        visible[...] = np.asarray(inner.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
        if keep_sum:
            visible *= (x1 - x0) * (y1 - y0) / visible.size
        return result

    def _region(self, size: Size, box: Box | None) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of the photograph."""
        if box is not None:
            return crop_region(box, size, self.margin)
        height, width = size
        left, top = round(width * (1 - self.crop) / 2), round(height * (1 - self.crop) / 2)
        return left, top, max(left + 1, width - left), max(top + 1, height - top)

    def _placement(self, size: Size) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of the result, where a region of (height, width) pixels comes to lie."""
        rows, columns = self.size
        if self.resize == "stretch":
            return 0, 0, columns, rows
        scale = min(rows / size[0], columns / size[1])
        inner_rows, inner_columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        x, y = (columns - inner_columns) // 2, (rows - inner_rows) // 2
        return x, y, x + inner_columns, y + inner_rows
