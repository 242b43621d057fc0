"""Procedural photographs of a cervix, a pure function of a seed.

Tests and examples need photographs with known types and zones, and the real ones may not be redistributed. The
drawings follow the report's figure 1 (the three types of transformation zone) and the folder layout of its
section 4. Every picture shows pink vaginal wall, the paler disc of the ectocervix, the dark external os in it,
and red epithelium. The type is given by WHERE the red lies relative to the os, never by how much there is:

* Type 1 (completely ectocervical, fully visible): a closed red ring on the ectocervix. A pale collar lies
  between the os and the ring, so both borders of the zone are seen.
* Type 2 (with an endocervical part, fully visible): a red area without any collar. It touches the os all
  around, reaches into the wide open os, and a pale line inside the canal marks its upper limit.
* Type 3 (endocervical, not fully visible): no red area around the os. The os is a closed dark slit in pale
  tissue, with no more than a thin red crescent along one lip.

Red patches elsewhere (inflammation) fill up the red area to a sum with the same distribution for all types. The
dark area does not depend on the type either, and light, white balance and tissue vary more than the type makes
colours vary. A histogram of colours therefore says next to nothing: a model has to look at the arrangement.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from cervix_jax.images import synthetic_scene as scene
from cervix_jax.images.boxes import bounding_box

SUBSETS = ("train", "additional", "test")
KINDS = ("clean", "shifted", "blurred", "junk")
DEFAULT_COUNTS: Mapping[str, int] = MappingProxyType({"train": 600, "additional": 240, "test": 60})
CLASS_SHARES = (0.17, 0.53, 0.30)  # shares of types 1, 2, 3 in the real training photographs
KIND_SHARES = (0.50, 0.20, 0.15, 0.15)  # shares of KINDS in the subset 'additional'


@dataclasses.dataclass(frozen=True)
class SyntheticPhotograph:
    """A synthetic photograph and its ground truth.

    Attributes:
        name: path inside a raw folder, 'train/Type_2/17.jpg', 'additional/Type_1/junk_3.jpg', 'test/5.jpg'.
        subset: 'train', 'additional' or 'test'.
        label: 0, 1, 2 for types 1, 2, 3.
        kind: 'clean', 'shifted' (colours), 'blurred' or 'junk' (no cervix in the picture).
        image: 8 bit RGB.
        zone: the visible pixels of the transformation zone; no pixel for junk, few for type 3.
        box: of the visible cervix: left, top, right, bottom as fractions of the picture; None for junk.
    """

    name: str
    subset: str
    label: int
    kind: str
    image: UInt8[np.ndarray, "height width 3"]
    zone: Bool[np.ndarray, "height width"]
    box: tuple[float, float, float, float] | None


def draw(
    seed: int,
    subset: str,
    index: int,
    *,
    label: int | None = None,
    kind: str | None = None,
    size: tuple[int, int] = (320, 240),
) -> SyntheticPhotograph:
    """Draws one photograph; a pure function of its arguments.

    Args:
        seed: non-negative seed of the whole collection.
        subset: one of SUBSETS.
        index: number of the photograph within its subset, from 0.
        label: type to draw (0, 1, 2) instead of the one that belongs to the index.
        kind: one of KINDS instead of the one that belongs to the index ('clean' outside 'additional').
        size: height and width of the picture in pixels.

    Returns:
        The photograph.
    """
    rng = np.random.default_rng([seed, SUBSETS.index(subset), index])
    # A Kronecker sequence instead of the generator: the shares hold even for a dozen photographs, so that no
    # small test folder lacks a type. The two steps (of the R2 sequence) keep types and kinds independent.
    if label is None:
        label = _share_of(CLASS_SHARES, 0.5 + index * 0.7548776662466927)
    if kind is None:
        number = _share_of(KIND_SHARES, 0.5 + index * 0.5698402909980532)
        kind = KINDS[number] if subset == "additional" else "clean"
    if kind == "junk":
        colour, zone, box = scene.draw_junk(rng, size), np.zeros(size, bool), None
    else:
        colour, zone, cervix = scene.draw_cervix(rng, label, size)
        box = bounding_box(cervix)
    if kind == "shifted":
        colour = scene.shift_colours(rng, colour)
    image = scene.expose(rng, colour, blur=rng.uniform(5, 9) * size[0] / 320 if kind == "blurred" else 0.0)
    stem = f"{index}" if kind == "clean" else f"{kind}_{index}"
    folder = subset if subset == "test" else f"{subset}/Type_{label + 1}"
    return SyntheticPhotograph(f"{folder}/{stem}.jpg", subset, label, kind, image, zone, box)


def photographs(seed: int = 0, *, counts: Mapping[str, int] = DEFAULT_COUNTS) -> Iterator[SyntheticPhotograph]:
    """Draws a whole collection, subset after subset.

    Args:
        seed: seed of the collection.
        counts: number of photographs of each subset; subsets left out get none.

    Yields:
        The photographs 0, 1, ... of every subset.
    """
    for subset, count in counts.items():
        for index in range(count):
            yield draw(seed, subset, index)


def write_folder(directory: Path, seed: int = 0, counts: Mapping[str, int] = DEFAULT_COUNTS) -> None:
    """Writes a collection as JPEG files in the layout of Kaggle's folders.

    The files are train/Type_1..3/*.jpg, additional/Type_1..3/*.jpg, test/*.jpg (names without type), test_labels.csv
    with the columns image_name (file name within test/) and label (0, 1, 2), and boxes.csv with the true box of every
    cervix outside of test/ (columns image_name, left, top, right, bottom).

    Args:
        directory: the raw folder; made if it does not exist.
        seed: seed of the collection.
        counts: number of photographs of each subset.
    """
    for subset in SUBSETS:
        for folder in [subset] if subset == "test" else [f"{subset}/Type_{number}" for number in (1, 2, 3)]:
            (directory / folder).mkdir(parents=True, exist_ok=True)
    labels, boxes = ["image_name,label"], ["image_name,left,top,right,bottom"]
    for photograph in photographs(seed, counts=counts):
        path = directory / photograph.name
        Image.fromarray(photograph.image).save(path, quality=90)
        if photograph.subset == "test":
            labels.append(f"{path.name},{photograph.label}")
        elif photograph.box is not None:
            boxes.append(",".join([photograph.name, *(f"{side:.4f}" for side in photograph.box)]))
    for name, rows in (("test_labels.csv", labels), ("boxes.csv", boxes)):
        (directory / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def _share_of(shares: tuple[float, ...], position: float) -> int:
    """The index of the share of [0, 1) that the fractional part of `position` falls into."""
    return min(int(np.searchsorted(np.cumsum(shares), position % 1.0, side="right")), len(shares) - 1)
