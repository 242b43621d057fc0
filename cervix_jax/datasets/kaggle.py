"""Published corrections of Kaggle's photographs, applied only to them.

Kaggle's *Intel & MobileODT Cervical Cancer Screening* published corrections after its archives: three labels of the
initial set, and the tables `fixed_labels_v2.csv` and `removed_files.csv` (filename, old_label, new_label) for the
additional set, and later the labels of stage 1's test photographs, `solution_stg1_release.csv`.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from cervix_jax.csv_files import from_cell, read_rows
from cervix_jax.datasets.folders import source_of
from cervix_jax.datasets.splits import INITIAL
from cervix_jax.errors import UserError
from cervix_jax.labels import CLASS_NAMES

# SHA-256 of the sorted names of the 1,481 initial photographs, a line each.
TRAIN_NAMES = "79391e842d7f8ce530a2d6883956014f4bf3976152808e256fa8e0dad223cc90"
TRAIN_CORRECTIONS = {"train/Type_2/80.jpg": 2, "train/Type_3/968.jpg": 0, "train/Type_3/1120.jpg": 0}

FIXED_LABELS = ("fixed_labels_v2.csv", "fixed_labels.csv")  # the newer one wins
REMOVED_FILES = "removed_files.csv"
TEST_LABELS = "solution_stg1_release.csv"
TABLES = (*FIXED_LABELS, REMOVED_FILES, TEST_LABELS)


class TableError(UserError):
    """A table of Kaggle's cannot be read; the message names file and line."""


@dataclasses.dataclass
class Corrections:
    """Corrections that apply to a folder.

    Attributes:
      labels: corrected labels (0, 1, 2) by name.
      removed: photographs to leave out, with the reason, by name.
      notes: a line per change, for people.
    """

    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    removed: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def find_corrections(folder: Path, names: Iterable[str]) -> Corrections:
    """The corrections that apply to the photographs of a raw folder.

    Args:
      folder: may hold Kaggle's tables.
      names: paths of the photographs inside the folder.

    Raises:
      TableError: a table is not laid out as Kaggle's.
    """
    names = set(names)
    corrections = Corrections()
    if is_kaggles(names):
        for kaggles_name, label in TRAIN_CORRECTIONS.items():
            name = kaggles_name if kaggles_name in names else kaggles_name.removeprefix("train/")
            corrections.labels[name] = label
            corrections.notes.append(f"{name}: {CLASS_NAMES[label]}, as Kaggle corrected it")
    fixed = next((folder / name for name in FIXED_LABELS if (folder / name).is_file()), None)
    if fixed is not None:
        for name, new in _moved(fixed, names):
            if new is not None:
                corrections.labels[name] = new
                corrections.notes.append(f"{name}: {CLASS_NAMES[new]}, by {fixed.name}")
    if (folder / REMOVED_FILES).is_file():
        for name, _ in _moved(folder / REMOVED_FILES, names):
            corrections.removed[name] = f"listed in {REMOVED_FILES}"
            corrections.notes.append(f"{name}: left out, by {REMOVED_FILES}")
    if (folder / TEST_LABELS).is_file():
        test_labels = _test_labels(folder / TEST_LABELS, names)
        corrections.labels |= test_labels
        corrections.notes.append(f"{len(test_labels)} labels of test/, by {TEST_LABELS}")
    return corrections


def is_kaggles(names: Iterable[str]) -> bool:
    """Whether the initial photographs are named exactly as Kaggle's 1,481 are, in `train/` or without it."""
    train = sorted(f"train/{name.removeprefix('train/')}" for name in names if source_of(name) == INITIAL)
    return hashlib.sha256("\n".join(train).encode(errors="surrogateescape")).hexdigest() == TRAIN_NAMES


def _moved(table: Path, names: set[str]) -> Iterator[tuple[str, int | None]]:
    """The additional photographs in a table of filename, old_label, new_label; and their new labels (None: no type).

    File names repeat between train/ and additional/; the tables are about the latter.
    """
    for number, row in read_rows(table, ("filename", "old_label", "new_label"), TableError):
        if row["old_label"] not in CLASS_NAMES:
            raise TableError(f"{table}, line {number}: old_label is {row['old_label']!r}")
        new = CLASS_NAMES.index(row["new_label"]) if row["new_label"] in CLASS_NAMES else None
        name = f"additional/{row['old_label']}/{row['filename']}"
        if name in names:
            yield name, new


def _test_labels(table: Path, names: set[str]) -> dict[str, int]:
    labels = {}
    for number, row in read_rows(table, ("image_name", *CLASS_NAMES), TableError):
        one_hot = [row[class_name].removesuffix(".0") for class_name in CLASS_NAMES]
        if sorted(one_hot) != ["0", "0", "1"]:
            raise TableError(f"{table}, line {number}: one of {', '.join(CLASS_NAMES)} must be 1, the others 0")
        if (name := f"test/{from_cell(row['image_name'])}") in names:
            labels[name] = one_hot.index("1")
    return labels
