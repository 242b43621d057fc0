"""Probabilities and decisions for every photograph of a folder, as CSV files."""

import contextlib
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float

from cervix_jax.errors import UserError
from cervix_jax.inference.decisions import Rules
from cervix_jax.inference.image_folder import photographs_in, read_all
from cervix_jax.inference.predictor import Photograph, Predictor


class OutputError(UserError):
    """A CSV file cannot be written where it is wanted."""


def check_output(path: Path) -> None:
    """Raises OutputError unless the path is that of a CSV file, which may be written anew."""
    if path.suffix != ".csv" or path.is_dir():
        raise OutputError(f"--output is {path}; it must be a file whose name ends in .csv")


def predict_folder(
    predictor: Predictor,
    folder: Path,
    output: Path,
    *,
    rules: Rules | None = None,
    fill_prior: bool = False,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Writes `image_name,Type_1,Type_2,Type_3`, a row a photograph; names are paths inside the folder.

    Beside it, as `NAME.decisions.csv`, what to do with each photograph that could be read: `type` that it is called,
    prediction `set`, `decision` (the type, or 'refer' where the set is not just that), `retake` (why the photograph
    should be taken again, '' if it is fit) and `quality` (share of the training photographs that are as bad or worse).

    Args:
      predictor: one run or many.
      folder: searched with its subfolders.
      output: the CSV file.
      rules: how decisions are made; by the likeliest type unless given.
      fill_prior: give files that cannot be read the class shares of the training set instead of leaving them out.
      batch_size: photographs held in memory at a time.

    Returns:
      `predicted`: number of photographs; `skipped`: names and reasons of files that could not be read; `output` and
      `decisions`: the files; `referred` and `retake`: how many; `temperature`.

    Raises:
      NoPhotographsError: there is nothing to predict.
    """
    paths = photographs_in(folder)
    rules = rules or Rules()
    skipped: list[dict[str, str]] = []
    decisions = output.with_suffix(".decisions.csv")
    counts = {"referred": 0, "retake": 0}
    with _table(output) as table, _table(decisions) as decided:
        table.writerow(["image_name", *predictor.class_names])
        decided.writerow(["image_name", "type", "set", "decision", "retake", "quality"])
        found = read_all(predictor, folder, paths)
        while part := list(itertools.islice(found, batch_size)):
            names = [name for name, photograph in part if not isinstance(photograph, str)]
            photographs = [photograph for _, photograph in part if not isinstance(photograph, str)]
            failed = [(name, reason) for name, reason in part if isinstance(reason, str)]
            skipped += [{"image_name": name, "reason": reason} for name, reason in failed]
            probabilities = predictor.probabilities(photographs, batch_size)
            rows = list(zip(names, probabilities, strict=True))
            if fill_prior:
                rows += [(name, np.asarray(predictor.class_shares)) for name, _ in failed]
            table.writerows([name, *(f"{p:.8f}" for p in row)] for name, row in rows)
            for row in _decisions(predictor, rules, names, photographs, probabilities):
                decided.writerow(row)
                counts["referred"] += row[3] == "refer"
                counts["retake"] += bool(row[4])
    return {
        "predicted": len(paths) - len(skipped),
        "skipped": skipped,
        "output": str(output),
        "decisions": str(decisions),
        **counts,
        "temperature": predictor.temperature,
    }


def _decisions(
    predictor: Predictor,
    rules: Rules,
    names: list[str],
    photographs: list[Photograph],
    probabilities: Float[np.ndarray, "b k"],
) -> Iterator[list[str]]:
    types, sets = rules.apply(probabilities)
    for i, name in enumerate(names):
        called = predictor.class_names[types[i]]
        members = [type_name for type_name, held in zip(predictor.class_names, sets[i], strict=True) if held]
        quality = predictor.quality_reference.assess(photographs[i].scores) if predictor.quality_reference else None
        yield [
            name,
            called,
            " ".join(members),
            called if members == [called] else "refer",
            quality.retake if quality else "",
            f"{quality.rank:.4f}" if quality else "",
        ]


@contextlib.contextmanager
def _table(path: Path) -> Iterator[Any]:
    """A CSV writer; the file is there once everything is written."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # names as they are on disk
        # Only what is in the terminator is quoted for sure, and names may hold carriage returns; lines end in \n.
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        yield csv.writer(lines, lineterminator="\r\n")
    partial.replace(path)
