"""From the bytes of a photograph to network inputs: the one way in which predictors read photographs.

A photograph is seen exactly as training sees its own: at the size that a data set stores, then cropped and resized as
each run does.
"""

import dataclasses
import io
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cervix_jax.datasets.quality import ImageFeatures
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import read_bytes
from cervix_jax.images.geometry import CropResize


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph as the runs of a predictor see it.

    Attributes:
      images: uint8 RGB [h w 3], the network input of each of the predictor's `transforms`.
      jpeg: the bytes that a data set would store: upright, sRGB.
      size: (height, width) of `jpeg` in pixels.
      features: colours and sharpness, which say whether it is fit to be judged; None if they were not asked for.
    """

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    jpeg: bytes
    size: tuple[int, int]
    features: ImageFeatures | None = None

    @classmethod
    def read(
        cls,
        source: str | os.PathLike[str] | bytes,
        transforms: Sequence[CropResize],
        *,
        with_features: bool = False,
    ) -> "Photograph":
        """Reads a photograph from anywhere.

        Args:
          source: a path, or the bytes of a file.
          transforms: photograph -> network input.
          with_features: measure `features` too.

        Raises:
          UnreadableError: it is no photograph that can be read.
        """
        stored = to_stored(source if isinstance(source, bytes) else read_bytes(source))
        size = stored.image.height, stored.image.width
        images = _network_inputs(stored.jpeg, size, transforms, {1: stored.image})
        return cls(images, stored.jpeg, size, ImageFeatures.of(stored.image) if with_features else None)

    @classmethod
    def from_stored(cls, jpeg: bytes, transforms: Sequence[CropResize]) -> "Photograph":
        """The same of the bytes that a data set stores, which are decoded no larger than the transforms need."""
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as header:
            size = header.height, header.width
        return cls(_network_inputs(jpeg, size, transforms, {}), jpeg, size)


def _network_inputs(
    jpeg: bytes, size: tuple[int, int], transforms: Sequence[CropResize], decoded: dict[int, Image.Image]
) -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]:
    """The result of each transform, of pixels decoded as small as it allows, as in training.

    Args:
      jpeg: as stored.
      size: its (height, width).
      transforms: photograph -> network input.
      decoded: images by the reduction that they were decoded at; filled, so that none is decoded twice.
    """
    images = []
    for transform in transforms:
        reduction = _jpeg_reduction(size, transform.size)
        if reduction not in decoded:
            decoded[reduction] = read_photograph(jpeg, min_size=transform.size)
        images.append(transform(decoded[reduction]))
    return tuple(images)


def _jpeg_reduction(size: tuple[int, int], min_size: tuple[int, int]) -> int:
    """The largest of 1, 2, 4 and 8 by which a JPEG is decoded smaller while both sides stay at least `min_size`."""
    factor = min(size[0] // min_size[0], size[1] // min_size[1])
    return next((reduction for reduction in (8, 4, 2) if factor >= reduction), 1)
