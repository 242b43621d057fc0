"""Boxes around the cervix that people drew: `boxes.csv` in the raw folder, or the export of an annotation tool.

`boxes.csv` has the columns `image_name,left,top,right,bottom` and, where several people drew, `annotator`; coordinates
are fractions of the upright photograph. Read as well are, under these names in the raw folder:

* `boxes.json`: COCO (`images`, `annotations` with `bbox` in pixels);
* `boxes.xml`: CVAT for images 1.1;
* `NAME.json` beside a photograph `NAME.jpg`: LabelMe (rectangles, or the extent of polygons).

A photograph may be named by its path inside the raw folder, or by as much of the end of it as is unique.
"""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from cervix_jax.csv_files import from_cell, read_rows
from cervix_jax.errors import UserError
from cervix_jax.images.boxes import Box

CSV, COCO, CVAT = "boxes.csv", "boxes.json", "boxes.xml"
FILES = (CSV, COCO, CVAT)
COLUMNS = ("image_name", "left", "top", "right", "bottom")
_DAMAGE = (OSError, ValueError, LookupError, TypeError, RecursionError, ElementTree.ParseError)
SHOWN = 10  # wrong rows that a message names


class BoxesError(UserError):
    """A file of boxes cannot be read; the message names the file and every wrong row, or the first of many."""


class Annotation(NamedTuple):
    """One box as it stands in a file.

    Attributes:
      where: file and row, for messages.
      image_name: as the file has it.
      annotator: who drew it, '' if the file does not say.
      sides: left, top, right, bottom.
      size: (height, width) of the photograph in pixels, if the sides are pixels; else they are fractions.
    """

    where: str
    image_name: str
    annotator: str
    sides: tuple[float, ...]
    size: tuple[float, float] | None = None


def read_boxes(folder: Path, names: Collection[str]) -> tuple[dict[str, dict[str, Box]], list[str]]:
    """Boxes of the photographs of a raw folder.

    Args:
      folder: the raw folder.
      names: its photographs, as paths inside it.

    Returns:
      For each photograph that has any, a box for each annotator; and notes, a line each.

    Raises:
      BoxesError: a file is damaged, or rows are wrong: numbers that are none, sides outside of the photograph or in the
        wrong order, names that fit several photographs, two boxes of one photograph by one annotator.
    """
    boxes: dict[str, dict[str, Box]] = {}
    wrong: list[str] = []
    absent = 0
    find = finder(names)
    for annotation in _annotations(folder, names):
        candidates = find(annotation.image_name)
        if not candidates:
            absent += 1
            continue
        box = _fractions(annotation)
        of_photograph = boxes.setdefault(candidates[0], {})
        if len(candidates) > 1:
            wrong.append(f"{annotation.where}: {annotation.image_name!r} may be {candidates[0]} or {candidates[1]}")
        elif isinstance(box, str):
            wrong.append(f"{annotation.where}: {box}")
        elif annotation.annotator in of_photograph:
            wrong.append(f"{annotation.where}: a second box of {candidates[0]}")
        else:
            of_photograph[annotation.annotator] = box
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise BoxesError("\n  ".join([f"{len(wrong)} wrong boxes in {folder}:", *wrong[:SHOWN], *more]))
    notes = [f"boxes of {len(boxes)} of {len(names)} photographs"] if boxes else []
    if absent:
        notes.append(f"{absent} boxes of photographs that are not in {folder}")
    return boxes, notes


def annotators(boxes: Mapping[str, Mapping[str, Box]]) -> list[str]:
    """Who drew boxes, in alphabetical order."""
    return sorted({name for of_photograph in boxes.values() for name in of_photograph})


def to_array(boxes: Mapping[str, Mapping[str, Box]], names: Sequence[str]) -> Float32[np.ndarray, "n a 4"]:
    """Boxes of photographs by `annotators`, in order; NaN where there is none."""
    missing = (math.nan,) * 4
    rows = [[boxes.get(name, {}).get(annotator, missing) for annotator in annotators(boxes)] for name in names]
    return np.array(rows, np.float32).reshape(len(names), -1, 4)


def files(folder: Path, names: Iterable[str]) -> list[str]:
    """The files of boxes that exist, as paths inside the raw folder."""
    candidates = [*FILES, *(str(PurePosixPath(name).with_suffix(".json")) for name in names)]
    return [name for name in candidates if (folder / name).is_file()]


def finder(names: Collection[str]) -> Callable[[str], list[str]]:
    """A function from a name in a file to the photographs that it may mean."""
    exact, by_file_name = set(names), dict[str, list[str]]()
    for name in names:
        by_file_name.setdefault(PurePosixPath(name).name, []).append(name)

    def find(image_name: str) -> list[str]:
        image_name = image_name.replace("\\", "/")
        if image_name in exact:
            return [image_name]
        candidates = by_file_name.get(PurePosixPath(image_name).name, [])
        return [name for name in candidates if f"/{name}".endswith(f"/{image_name}")]

    return find


def _fractions(annotation: Annotation) -> Box | str:
    """The box, or what is wrong with it."""
    sides = annotation.sides
    if annotation.size is not None:
        height, width = annotation.size
        if not (height > 0 and width > 0):
            return f"a photograph of {width:g} x {height:g} pixels"
        sides = (sides[0] / width, sides[1] / height, sides[2] / width, sides[3] / height)
    if not all(map(math.isfinite, sides)):
        return "a side is no number"
    left, top, right, bottom = sides
    slack = 0.005  # tools let boxes reach over the edge by a pixel
    if min(sides) < -slack or max(sides) > 1 + slack:
        return f"{left:g}, {top:g}, {right:g}, {bottom:g} lies outside of the photograph"
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in sides)
    if not (left < right and top < bottom):
        return f"{left:g}, {top:g}, {right:g}, {bottom:g} is empty: left must be below right, top below bottom"
    return left, top, right, bottom


def _annotations(folder: Path, names: Collection[str]) -> Iterator[Annotation]:
    readers = {CSV: _read_csv, COCO: _read_coco, CVAT: _read_cvat}
    for file_name, read in readers.items():
        if (folder / file_name).is_file():
            yield from _checked(folder / file_name, read)
    for name in names:
        path = (folder / name).with_suffix(".json")
        if path.is_file():
            for annotation in _checked(path, _read_labelme):
                yield annotation._replace(image_name=name)


def _checked(path: Path, read: Callable[[Path], Iterator[Annotation]]) -> Iterator[Annotation]:
    """What a reader yields; damage of any kind as one error that names the file."""
    try:
        yield from read(path)
    except BoxesError:
        raise
    except _DAMAGE as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise BoxesError(f"{path} cannot be read as boxes: {reason}") from error


def _read_csv(path: Path) -> Iterator[Annotation]:
    for line, row in read_rows(path, COLUMNS, BoxesError):
        sides = tuple(_number(row[column]) for column in COLUMNS[1:])
        yield Annotation(f"{path.name}, line {line}", from_cell(row["image_name"]), row.get("annotator", ""), sides)


def _read_coco(path: Path) -> Iterator[Annotation]:
    content = json.loads(path.read_text(encoding="utf-8"))
    images = {image["id"]: image for image in content["images"]}
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        x, y, width, height = map(_number, annotation["bbox"])
        size = (_number(image["height"]), _number(image["width"]))
        where = f"{path.name}, annotation {annotation.get('id')}"
        yield Annotation(where, str(image["file_name"]), "", (x, y, x + width, y + height), size)


def _read_cvat(path: Path) -> Iterator[Annotation]:
    for image in ElementTree.parse(path).getroot().iter("image"):
        size = (_number(image.get("height")), _number(image.get("width")))
        for box in image.iter("box"):
            sides = tuple(_number(box.get(side)) for side in ("xtl", "ytl", "xbr", "ybr"))
            yield Annotation(f"{path.name}, image {image.get('id')}", image.get("name") or "", "", sides, size)


def _read_labelme(path: Path) -> Iterator[Annotation]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if "shapes" not in content:  # another tool's file
        return
    size = (_number(content["imageHeight"]), _number(content["imageWidth"]))
    for shape in content["shapes"]:
        points = np.array([[_number(point[0]), _number(point[1])] for point in shape["points"]])
        sides = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())  # NaN where a point is no number
        yield Annotation(path.name, "", "", sides, size)


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
