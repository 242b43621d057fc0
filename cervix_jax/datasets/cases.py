"""Cases: the photographs of one woman belong together, in folds, in bootstrap samples and in conformal references.

`cases.csv` in the folder of photographs has the columns `image_name,case`; a photograph is named by its path inside the
folder, or by as much of the end of it as is unique. Or a regular expression with a named group `case` is searched for
in the names: `atlas_(?P<case>[^_]+)_`. A photograph that has no case stands for itself.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cervix_jax.csv_files import from_cell, read_rows
from cervix_jax.datasets.annotations import finder
from cervix_jax.errors import UserError

CASES = "cases.csv"
COLUMNS = ("image_name", "case")


class CaseError(UserError):
    """A table of cases or a pattern cannot be read; the message says which line."""


def find_cases(folder: Path, names: Sequence[str], pattern: str | None = None) -> dict[str, str]:
    """The case of each photograph that has one, by name: by `cases.csv` in the folder, else by the pattern.

    Args:
      folder: of photographs.
      names: of these, as paths inside it.
      pattern: see `cases_by_pattern`; none if empty.

    Raises:
      CaseError: see `read_cases` and `cases_by_pattern`.
    """
    return cases_by_pattern(names, pattern) | read_cases(folder, names)


def read_cases(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The cases of `cases.csv`, by photograph; none without such a file.

    Raises:
      CaseError: the table cannot be read, has other columns, or names no photograph; or a row names several, or gives
        a second case to one.
    """
    path, cases = folder / CASES, dict[str, str]()
    if not path.is_file():
        return cases
    find, first_name = finder(names), ""
    for line, row in read_rows(path, COLUMNS, CaseError):
        image_name, case = from_cell(row["image_name"]), row["case"]
        if not (image_name and case):
            continue
        first_name = first_name or image_name
        candidates = find(image_name)
        if len(candidates) > 1:
            raise CaseError(f"{path}, line {line}: {image_name!r} may be {candidates[0]} or {candidates[1]}")
        for name in candidates:
            if cases.setdefault(name, case) != case:
                raise CaseError(f"{path}, line {line}: a second case of {name}")
    if first_name and names and not cases:
        raise CaseError(
            f"{path} names none of the {len(names)} photographs: {first_name!r} and others; they are as {names[0]!r}"
        )
    return cases


def cases_by_pattern(names: Sequence[str], pattern: str | None) -> dict[str, str]:
    """The cases that a regular expression finds in names; none without one.

    Raises:
      CaseError: it is no regular expression, has no group named `case`, or finds none in any name.
    """
    if not pattern:
        return {}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise CaseError(f"the pattern of cases {pattern!r} is no regular expression: {error}") from error
    if "case" not in compiled.groupindex:
        raise CaseError(f"the pattern of cases {pattern!r} has no group of that name: write (?P<case>...)")
    found = ((name, compiled.search(name)) for name in names)
    cases = {name: match["case"] for name, match in found if match and match["case"]}
    if names and not cases:
        raise CaseError(f"the pattern of cases {pattern!r} fits no name, such as {names[0]}")
    return cases


def unite(groups: Int[np.ndarray, "n"], names: Sequence[str], cases: Mapping[str, str]) -> Int[np.ndarray, "n"]:
    """Groups in which near-duplicates and the photographs of a case are together, and what these share with others.

    Args:
      groups: near-duplicates have the same number.
      names: of the photographs.
      cases: by name, of those that have one.
    """
    if not cases:
        return groups
    distinct, group_index = np.unique(groups, return_inverse=True)
    numbers = {case: len(distinct) + i for i, case in enumerate(sorted(set(cases.values())))}
    rows = [i for i, name in enumerate(names) if name in cases]
    places = [numbers[cases[names[i]]] for i in rows]
    size = len(distinct) + len(numbers)
    edges = coo_array((np.ones(len(rows)), (group_index[rows], places)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    return component[group_index].astype(int)
