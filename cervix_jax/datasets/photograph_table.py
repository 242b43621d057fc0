"""Photographs by a table instead of folders: `--config.dataset.manual_dir=photographs.csv`.

Columns: `path` (from the table's folder on, or absolute) and `type` (Type_1 to Type_3, may be empty where `split` is
'test'); optionally `case`, and `split`: 'train' (by default), 'additional' or 'test'. The photographs are laid out as
folders in the root of data sets, by hard links where the file system allows, else by copies; all that reads folders
reads these. Boxes and labels of readers lie in that folder, as they would beside photographs.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cervix_jax.csv_files import csv_writer, from_cell, read_rows
from cervix_jax.datasets.cases import CASES
from cervix_jax.datasets.cases import COLUMNS as CASE_COLUMNS
from cervix_jax.datasets.kaggle import TEST_LABELS
from cervix_jax.errors import UserError
from cervix_jax.images.files import SUFFIXES
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.lock import exclusive

FOLDER = "cervix_photographs"  # in the root of data sets
SPLITS = ("train", "additional", "test")


class PhotographTableError(UserError):
    """A table of photographs cannot be used; the message names the line."""


class _Row(NamedTuple):
    """A photograph, where it goes, its type ('' if unknown) and its case ('' for none)."""

    source: Path
    name: str
    type_name: str
    case: str


def is_table(path: Path) -> bool:
    """Whether a path is meant to be a table of photographs."""
    return path.suffix.lower() == ".csv"


def lay_out(table: Path, root: Path) -> Path:
    """The folder of a table's photographs, brought up to date: the layout of Kaggle's folders, with `cases.csv`.

    Args:
      table: the CSV file.
      root: of data sets; the folder is named after the table's place, so that each has its own.

    Raises:
      PhotographTableError: see `_rows`.
    """
    rows = list(_rows(table))
    plain = re.sub(r"\W+", "_", str(table.absolute().with_suffix(""))).strip("_")
    place = f"{plain[-80:]}_{_digest(str(table.absolute()))}"
    folder = root / FOLDER / place
    with exclusive(root / FOLDER / f"{place}.lock", str(folder), wait=True):
        _bring_up_to_date(folder, rows)
    return folder


def _bring_up_to_date(folder: Path, rows: Sequence[_Row]) -> None:
    """What is right stays in place, since another process may be reading it."""
    wanted = {row.name: row.source.resolve() for row in rows}
    for path in [path for path in folder.rglob("*") if not path.is_dir()] if folder.is_dir() else []:
        if path.suffix.lower() in SUFFIXES and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    for name, source in wanted.items():
        target = folder / name
        if target.is_symlink() or (target.exists() and not _is_same(source, target)):
            target.unlink()
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:
                shutil.copy2(source, target)
    cases = [[row.name, row.case] for row in rows if row.case]
    types = [
        [Path(row.name).name, *(int(row.type_name == name) for name in CLASS_NAMES)]
        for row in rows
        if row.type_name and row.name.startswith("test/")
    ]
    _write_or_remove(folder / CASES, CASE_COLUMNS, cases)
    _write_or_remove(folder / TEST_LABELS, ("image_name", *CLASS_NAMES), types)


def _write_or_remove(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table of rows; no file where there are none."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    with csv_writer(path) as writer:
        writer.writerow(columns)
        writer.writerows(rows)


def _is_same(source: Path, target: Path) -> bool:
    """Whether a link or copy is up to date."""
    a, b = source.stat(), target.stat()
    return source.samefile(target) or (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _rows(table: Path) -> Iterator[_Row]:
    """The rows of a table.

    Raises:
      PhotographTableError: there is no such table, a column is missing, a file is missing or no picture, a type or a
        split is none, or a photograph is there twice.
    """
    seen: set[Path] = set()
    taken: set[str] = set()
    for line, fields in read_rows(table, ("path", "type"), PhotographTableError):
        where, split, type_name = f"{table}, line {line}", fields.get("split") or "train", fields["type"]
        path = from_cell(fields["path"])
        source = table.parent / path
        if split not in SPLITS:
            raise PhotographTableError(f"{where}: the split is {split!r}, none of {', '.join(SPLITS)}")
        if type_name not in CLASS_NAMES and (type_name or split != "test"):
            raise PhotographTableError(f"{where}: the type is {type_name!r}, none of {', '.join(CLASS_NAMES)}")
        if not source.is_file() or source.suffix.lower() not in SUFFIXES:
            raise PhotographTableError(f"{where}: {source} is no file that is named like a picture")
        if source.absolute() in seen:
            raise PhotographTableError(f"{where}: {path} is there twice")
        seen.add(source.absolute())
        place = split if split == "test" else f"{split}/{type_name}"
        inside = re.sub(r"[^\w.-]+", "_", path).lstrip("._")[-200:]
        if inside in taken:  # by another path that reads alike
            inside = f"{_digest(path)}_{inside}"
        taken.add(inside)
        yield _Row(source, f"{place}/{inside}", type_name, fields.get("case", ""))


def _digest(path: str) -> str:
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:8]
