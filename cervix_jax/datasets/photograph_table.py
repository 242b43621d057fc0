"""Photographs by a table instead of folders: `--config.dataset.manual_dir=photographs.csv`.

Columns: `path` (from the table's folder on, or absolute) and `type` (Type_1 to Type_3, may be empty where `split` is
'test'); optionally `case`, and `split`: 'train' (by default), 'additional' or 'test'. The photographs are laid out as
folders in the root of data sets, by hard links where the file system allows, else by copies; all that reads folders
reads these.
"""

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cervix_jax.csv_files import csv_writer
from cervix_jax.datasets.cases import CASES
from cervix_jax.datasets.cases import COLUMNS as CASE_COLUMNS
from cervix_jax.errors import UserError
from cervix_jax.images.files import SUFFIXES
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.lock import exclusive

FOLDER = "cervix_photographs"  # in the root of data sets
SPLITS = ("train", "additional", "test")


class PhotographTableError(UserError):
    """A table of photographs cannot be used; the message names the line."""


class _Row(NamedTuple):
    """A photograph, where it goes, and its case ('' for none)."""

    source: Path
    name: str
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
    place = re.sub(r"\W+", "_", str(table.absolute().with_suffix(""))).strip("_")
    folder = root / FOLDER / place
    with exclusive(root / FOLDER / f"{place}.lock", str(folder), wait=True):
        _bring_up_to_date(folder, rows)
    return folder


def _bring_up_to_date(folder: Path, rows: Sequence[_Row]) -> None:
    """What is right stays in place, since another process may be reading it."""
    wanted, has_cases = {row.name: row.source for row in rows}, any(row.case for row in rows)
    kept = {*wanted, CASES} if has_cases else wanted.keys()
    for path in [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []:
        if path.relative_to(folder).as_posix() not in kept:
            path.unlink()
    for name, source in wanted.items():
        target = folder / name
        if target.exists() and not _is_same(source, target):
            target.unlink()
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:
                shutil.copy2(source, target)
    if has_cases:
        with csv_writer(folder / CASES) as writer:
            writer.writerow(CASE_COLUMNS)
            writer.writerows([row.name, row.case] for row in rows if row.case)


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
    seen: set[str] = set()
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PhotographTableError(f"{table} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PhotographTableError(f"{table} is no text in UTF-8: {error}") from error
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    if not {"path", "type"} <= set(reader.fieldnames or ()):
        raise PhotographTableError(f"{table} needs the columns path and type; case and split may follow")
    for row in reader:
        fields = {key: (value or "").strip() for key, value in row.items() if isinstance(value, str | None)}
        where, split = f"{table}, line {reader.line_num}", fields.get("split") or "train"
        source = table.parent / fields["path"]
        if split not in SPLITS:
            raise PhotographTableError(f"{where}: the split is {split!r}, none of {', '.join(SPLITS)}")
        if split != "test" and fields["type"] not in CLASS_NAMES:
            raise PhotographTableError(f"{where}: the type is {fields['type']!r}, none of {', '.join(CLASS_NAMES)}")
        if not source.is_file() or source.suffix.lower() not in SUFFIXES:
            raise PhotographTableError(f"{where}: {source} is no file that is named like a picture")
        place = split if split == "test" else f"{split}/{fields['type']}"
        inside = re.sub(r"[^\w.-]+", "_", fields["path"]).lstrip("._")
        name = f"{place}/{inside}"
        if inside in seen:
            raise PhotographTableError(f"{where}: {fields['path']} is there twice")
        seen.add(inside)
        yield _Row(source, name, fields.get("case", ""))
