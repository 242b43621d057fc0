r"""CSV files that Python and spreadsheets read safely, whatever photographs are called; names come back as they were.

A name that a spreadsheet would take for a formula is written behind an apostrophe, `'=1+1.jpg`, which spreadsheets take
for text. Bytes of a name that are not UTF-8 are written as `\xNN`, and a backslash that looks like one as `\x5c`, so
that the file is UTF-8. Other names, such as Kaggle's, are written as they are.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cervix_jax.atomic import open_atomic
from cervix_jax.errors import UserError

_FORMULA = re.compile(r"[=+\-@\t\r']")  # first characters; an apostrophe is doubled, so that none is lost in reading
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class CsvWriter:
    """Writes rows; see the module's documentation."""

    def __init__(self, rows: Any):
        self._rows = rows

    def writerow(self, cells: Iterable[object]) -> None:
        """Writes a row: text so that it is safe, numbers (also in text, such as '-1.50') as they are."""
        self._rows.writerow([to_cell(cell) if isinstance(cell, str) else cell for cell in cells])

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Writes several rows."""
        for row in rows:
            self.writerow(row)


def read_rows(path: Path, columns: Sequence[str], error: type[UserError]) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells, by column, of each row of a table by people, spreadsheets or `csv_writer`.

    Cells are stripped of spaces, and '' where a row is short; a byte-order mark is skipped.

    Args:
      path: a CSV file in UTF-8.
      columns: that it must have; others are read too.
      error: raised if it cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = reader.fieldnames or ()
            if missing := [column for column in columns if column not in names]:
                raise error(f"{path} has no column {', '.join(missing)}; it needs {', '.join(columns)}")
            return [(reader.line_num, {name: (row[name] or "").strip() for name in names}) for row in reader]
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror}") from reason
    except (UnicodeDecodeError, csv.Error) as reason:
        raise error(f"{path} cannot be read as CSV in UTF-8: {reason}") from reason


@contextmanager
def csv_writer(path: Path) -> Iterator[CsvWriter]:
    r"""A writer of a CSV file that is replaced once everything is written.

    Lines end in \n, and names with carriage returns are quoted.
    """
    with open_atomic(path, newline="", encoding="utf-8") as file:
        # Only what is in the terminator is quoted for sure.
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        yield CsvWriter(csv.writer(lines, lineterminator="\r\n"))


def to_cell(text: str) -> str:
    """Text as it is written."""
    text = printable(re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", text))
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def from_cell(cell: str) -> str:
    """The text that `to_cell` has written; what older versions wrote comes back as it is."""
    text = cell[1:] if cell.startswith("'") and _FORMULA.match(cell, 1) else cell
    as_stored = text.encode(errors="surrogateescape")
    return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), as_stored).decode(errors="surrogateescape")


def printable(name: str) -> str:
    r"""A file name with bytes that are not UTF-8 as `\xNN`, so that it can be written anywhere."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
