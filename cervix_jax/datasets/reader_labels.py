"""Labels by several readers: a table that is read strictly, and the targets that training makes of it.

`labels.csv` has the columns `image_name,reader,type`; a photograph is named by its path inside the folder of
photographs, or by as much of the end of it as is unique.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from cervix_jax.datasets.annotations import finder
from cervix_jax.errors import UserError

LABELS = "labels.csv"  # in a folder of photographs
COLUMNS = ("image_name", "reader", "type")

Readings = Mapping[str, Mapping[str, int]]  # reader -> name of a photograph -> type, 0 to k - 1


class ReadersError(UserError):
    """A table of labels cannot be read, or names no photograph; the message says which line."""


def read_labels(path: Path, names: Sequence[str], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The readings of photographs, by reader.

    Args:
      path: a CSV file; lines about photographs that are not in `names` are left out.
      names: photographs, as paths inside their folder.
      class_names: k types.

    Raises:
      ReadersError: there is no such file, a column is missing, a type is none, a name fits several photographs, or a
        reader has two labels for one.
    """
    readings = dict[str, dict[str, int]]()
    find = finder(names)
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise ReadersError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ReadersError(f"{path} needs the columns {', '.join(COLUMNS)}")
        for row in reader:
            image_name, who, label = ((row[column] or "").strip() for column in COLUMNS)
            where, candidates = f"{path}, line {reader.line_num}", find(image_name)
            if label not in class_names:
                raise ReadersError(f"{where}: the type is {label!r}, none of {', '.join(class_names)}")
            if len(candidates) > 1:
                raise ReadersError(f"{where}: {image_name!r} may be {candidates[0]} or {candidates[1]}")
            for name in candidates:
                if readings.setdefault(who, {}).setdefault(name, class_names.index(label)) != class_names.index(label):
                    raise ReadersError(f"{where}: a second label of {name} by {who!r}")
    return readings


def count_readers(readings: Readings, names: Sequence[str], num_classes: int) -> Int[np.ndarray, "n k"]:
    """Readers who chose each of k types, by photograph.

    Args:
      readings: of some of the photographs, or of none.
      names: n photographs.
      num_classes: k.
    """
    place, counts = {name: i for i, name in enumerate(names)}, np.zeros((len(names), num_classes), int)
    for of_reader in readings.values():
        for name, label in of_reader.items():
            counts[place[name], label] += 1
    return counts


def reader_targets(counts: Int[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n k"]:
    """The distribution that training aims at: the shares of a photograph's readers, or its label where nobody read it.

    Args:
      counts: see `count_readers`.
      labels: 0 to k - 1.
    """
    read = counts.sum(axis=1, keepdims=True)
    return np.where(read > 0, counts / np.maximum(read, 1), np.eye(counts.shape[1])[labels]).astype(np.float32)
