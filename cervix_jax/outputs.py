"""Outputs replace what the same program has written before; a file of another kind only where the user says so."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

from cervix_jax.errors import UserError

_FIGURE_MARKS = (b"tEXtSoftware\0Matplotlib", b"/Creator (Matplotlib")  # as Matplotlib writes PNG and PDF files
_HEAD = 4096  # bytes within which a file says what it is


class OutputError(UserError):
    """Something cannot be written where it is wanted; the message says why and what to do."""


def check_outputs(paths: Iterable[Path], is_ours: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Raises OutputError if something would be lost.

    Args:
      paths: files that will be written.
      is_ours: whether a file that exists is of the kind that will be written.
      overwrite: files of other kinds may be replaced, folders never.
    """
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path} is a folder, and a file is to be written there")
        if path.exists() and not overwrite and not is_ours(path):
            raise OutputError(f"{path} is something else than what would be written; --overwrite replaces it")


def is_figure(path: Path) -> bool:
    """Whether a file was drawn by Matplotlib, as all figures of this software are."""
    content = path.read_bytes()
    return any(mark in content[:_HEAD] or mark in content[-_HEAD:] for mark in _FIGURE_MARKS)


def first_row(path: Path) -> list[str]:
    """The first row of a CSV file; empty if there is none, or the file is no text."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])
    except (ValueError, csv.Error):
        return []
