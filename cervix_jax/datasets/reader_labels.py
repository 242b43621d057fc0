"""Labels by several readers: a table that is read strictly, and the targets that training makes of it.

`labels.csv` has the columns `image_name,reader,type`; a photograph is named by its path inside the folder of
photographs, or by as much of the end of it as is unique.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from cervix_jax.csv_files import from_cell, read_rows
from cervix_jax.datasets.annotations import finder
from cervix_jax.errors import UserError
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.progress import log

LABELS = "labels.csv"  # in a folder of photographs
COLUMNS = ("image_name", "reader", "type")

Readings = Mapping[str, Mapping[str, int]]  # reader -> name of a photograph -> type, 0 to k - 1


class ReadersError(UserError):
    """A table of labels cannot be used; the message says why, and which line is wrong."""


def read_labels(
    path: Path, names: Sequence[str], class_names: Sequence[str] = CLASS_NAMES, *, damaged: Sequence[str] = ()
) -> Readings:
    """The readings of photographs, by reader. Lines about other photographs are left out, and counted in the log.

    Args:
      path: a CSV file in UTF-8.
      names: photographs of the folder, as paths inside it.
      class_names: of k classes; types that are none of them, of one type against the rest, are class 0.
      damaged: the other photographs of the folder; lines about them are left out too.

    Raises:
      ReadersError: the file cannot be read, a column is missing, a type is none, a name fits several photographs, a
        reader has two labels for one, or no line is about a photograph.
    """
    readings = dict[str, dict[str, int]]()
    find, strangers, left_out = finder([*names, *damaged]), 0, set(damaged)
    rows = read_rows(path, COLUMNS, ReadersError)
    for line, row in rows:
        cell, who, type_name = (row[column] for column in COLUMNS)
        where, candidates = f"{path}, line {line}", find(from_cell(cell))
        if type_name not in CLASS_NAMES:
            raise ReadersError(f"{where}: the type is {type_name!r}, none of {', '.join(CLASS_NAMES)}")
        if len(candidates) > 1:
            raise ReadersError(f"{where}: {cell!r} may be {candidates[0]} or {candidates[1]}")
        candidates = [name for name in candidates if name not in left_out]
        strangers += not candidates
        label = class_names.index(type_name) if type_name in class_names else 0
        for name in candidates:
            if readings.setdefault(who, {}).setdefault(name, label) != label:
                raise ReadersError(f"{where}: a second label of {name} by {who!r}")
    if not readings:
        raise ReadersError(f"{path} names none of the {len(names)} photographs")
    if strangers:
        log(f"{path}: {strangers} of {len(rows)} lines are about other photographs")
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
