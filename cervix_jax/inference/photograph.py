"""From the bytes of a photograph to network inputs: the one way in which predictors read photographs.

A photograph is seen exactly as training sees its own: at the size that a data set stores, then cropped, to its centre
or to the cervix that the run's localiser finds, and resized.
"""

import dataclasses
import hashlib
import io
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cervix_jax.datasets.quality import ImageFeatures
from cervix_jax.images.boxes import LocatedBox
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import read_bytes
from cervix_jax.images.geometry import CropResize
from cervix_jax.training.localiser import Localiser


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """Photograph -> network input, as a run was trained on it.

    Attributes:
      transform: crops and resizes.
      localiser: finds the box that is cropped to; None to crop the centre.
    """

    transform: CropResize
    localiser: Localiser | None = None


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph as the runs of a predictor see it.

    Attributes:
      images: uint8 RGB [h w 3], one for each of the predictor's `network_inputs`.
      jpeg: the bytes that a data set would store: upright, sRGB.
      size: (height, width) of `jpeg` in pixels.
      located: the box that each image was cropped to, found by a localiser; None for the centre.
      features: colours and sharpness, which say whether it is fit to be judged; None if they were not asked for.
    """

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    jpeg: bytes
    size: tuple[int, int]
    located: tuple[LocatedBox | None, ...]
    features: ImageFeatures | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of `jpeg`, by which a photograph is known again."""
        return hashlib.sha256(self.jpeg).hexdigest()

    @classmethod
    def read(
        cls,
        source: str | os.PathLike[str] | bytes,
        inputs: Sequence[NetworkInput],
        *,
        with_features: bool = False,
    ) -> "Photograph":
        """Reads a photograph from anywhere.

        Args:
          source: a path, or the bytes of a file.
          inputs: how runs see it.
          with_features: measure `features` too.

        Raises:
          UnreadableError: it is no photograph that can be read.
        """
        stored = to_stored(source if isinstance(source, bytes) else read_bytes(source))
        size = stored.image.height, stored.image.width
        images, located = _see(stored.jpeg, size, inputs, {1: stored.image})
        features = ImageFeatures.of(stored.image) if with_features else None
        return cls(images, stored.jpeg, size, located, features)

    @classmethod
    def from_stored(cls, jpeg: bytes, inputs: Sequence[NetworkInput]) -> "Photograph":
        """The same of the bytes that a data set stores, which are decoded no larger than is needed."""
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as header:
            size = header.height, header.width
        images, located = _see(jpeg, size, inputs, {})
        return cls(images, jpeg, size, located)


def _see(
    jpeg: bytes, size: tuple[int, int], inputs: Sequence[NetworkInput], decoded: dict[int, Image.Image]
) -> tuple[tuple[UInt8[np.ndarray, "_ _ 3"], ...], tuple[LocatedBox | None, ...]]:
    """Images and the boxes that they show, of pixels decoded as small as each input allows, as in training.

    Args:
      jpeg: as stored.
      size: its (height, width).
      inputs: how runs see it.
      decoded: images by the reduction that they were decoded at; filled, so that none is decoded twice.
    """

    def decode(min_size: tuple[int, int]) -> Image.Image:
        reduction = _jpeg_reduction(size, min_size)
        if reduction not in decoded:
            decoded[reduction] = read_photograph(jpeg, min_size=min_size)
        return decoded[reduction]

    by_localiser: dict[Localiser | None, LocatedBox | None] = {None: None}
    images, located = [], []
    for network_input in inputs:
        transform, localiser = network_input.transform, network_input.localiser
        if localiser is not None and localiser not in by_localiser:
            by_localiser[localiser] = localiser.locate_one(localiser.transform(decode(localiser.transform.min_size())))
        found = by_localiser[localiser]
        box = found.box if found else None
        images.append(transform(decode(transform.min_size(box)), box))
        located.append(found)
    return tuple(images), tuple(located)


def _jpeg_reduction(size: tuple[int, int], min_size: tuple[int, int]) -> int:
    """The largest of 1, 2, 4 and 8 by which a JPEG is decoded smaller while both sides stay at least `min_size`."""
    factor = min(size[0] // min_size[0], size[1] // min_size[1])
    return next((reduction for reduction in (8, 4, 2) if factor >= reduction), 1)
