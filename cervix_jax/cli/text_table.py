"""The result of a program as tables for people; pipes get JSON.

What is shown follows from the shape of the values, not from the program: numbers with `intervals` stand beside them,
entries that have the same fields are the rows of one table, lists are cut short, everything else is `name  value`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cervix_jax.csv_files import printable

INTERVALS = "intervals"  # of a result: [low, high] for numbers of the same names
_SHOWN = 12  # values of a list
_ONE_LINE = 5  # values of a group that are shown in one line

Row = Sequence[str]


def render(result: Mapping[str, Any]) -> str:
    """All of a result, as lines for a terminal."""
    intervals = result.get(INTERVALS) or {}
    rows: list[Row] = []
    sections = []
    for name, value in result.items():
        if name == INTERVALS:
            continue
        if (line := _one_line(value)) is not None:
            low_high = intervals.get(name)
            rows.append([name, line, *([_interval(low_high)] if low_high else [])])
        elif (table := _table(name, value, list(result.get("per_class", ())))) is not None:
            sections.append(table)
        else:
            sections.append(_indent(name, render(value)))
    header = [["", "", "95 % interval"]] if any(len(row) > 2 for row in rows) else []
    return printable("\n\n".join([*([_align([*header, *rows])] if rows else []), *sections]))


def _one_line(value: Any) -> str | None:
    """What fits beside its name; None for what needs a section."""
    if isinstance(value, Mapping):
        values = [_one_line(each) for each in value.values() if not isinstance(each, Mapping | list | tuple)]
        if len(values) < len(value) or len(value) > _ONE_LINE:
            return None
        return ", ".join(f"{name} {each}" for name, each in zip(value, values, strict=True)) or "none"
    if isinstance(value, list | tuple):
        if any(isinstance(each, Mapping | list | tuple) for each in value):
            return None
        more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
        return ", ".join(map(_scalar, value[:_SHOWN])) + more or "none"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _interval(limits: Sequence[float | None]) -> str:
    return " to ".join(map(_scalar, limits))


def _table(name: str, value: Any, class_names: Sequence[str]) -> str | None:
    """Entries of the same fields as rows, or a matrix of counts; None for anything else."""
    if isinstance(value, Mapping):
        labels, entries = list(value), list(value.values())
    else:
        labels, entries = [""] * len(value), list(value[:_SHOWN])
    if all(isinstance(entry, list | tuple) for entry in entries):
        header = list(class_names) if len(class_names) == len(entries) else labels
        rows = [[label, *map(_scalar, entry)] for label, entry in zip(header, entries, strict=True)]
        return f"{name} (rows: true)\n{_align([['', *header], *rows])}"
    fields = list(entries[0]) if isinstance(entries[0], Mapping) else []
    if not fields or any(not isinstance(entry, Mapping) or list(entry) != fields for entry in entries):
        return None
    if isinstance(value, Mapping) and len(entries) == 1:  # a group of one group is no table
        return None
    rows = [
        [label, *(_cell(field, entry[field]) for field in fields)]
        for label, entry in zip(labels, entries, strict=False)
    ]
    more = f"\nand {len(value) - len(entries)} more" if len(value) > len(entries) else ""
    return f"{name}\n{_align([['', *fields], *rows])}{more}"


def _cell(field: str, value: Any) -> str:
    if field == "interval" and value is not None:
        return _interval(value)
    return _one_line(value) or "..."


def _align(rows: Sequence[Row]) -> str:
    """Columns of equal width: numbers flush right, words flush left."""
    rows = [[printable(cell) for cell in row] for row in rows]
    count = max(map(len, rows))
    columns = [[row[i] if i < len(row) else "" for row in rows] for i in range(count)]
    lines = zip(*map(_pad, columns), strict=True)
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def _pad(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    is_number = all(cell.replace("e-", "").lstrip("-").replace(".", "").isdigit() for cell in column[1:] if cell != "")
    return [cell.rjust(width) if is_number and any(column[1:]) else cell.ljust(width) for cell in column]


def _indent(name: str, text: str) -> str:
    return "\n".join([name, *(f"  {line}".rstrip() for line in text.splitlines())])
