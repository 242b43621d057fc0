"""Probabilities of labelled photographs as a CSV file, from which systems are compared without any photograph."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.csv_files import csv_writer, from_cell
from cervix_jax.errors import UserError
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.outputs import first_row

COLUMNS = ("image_name", "group", "fold", "type")  # before the probabilities
DERIVED = ("predicted", "set")  # after them, for people; tables of older versions have neither


class TableError(UserError):
    """A file is no table of predictions, or two are of different photographs."""


@dataclasses.dataclass(frozen=True)
class PredictionTable:
    """What a system says of labelled photographs that it has not seen.

    Attributes:
      ids: names of the n photographs.
      labels: indices into the class names.
      groups: near-duplicates have the same number.
      folds: the fold that holds out each photograph; -1 for photographs of no fold.
      probabilities: uncalibrated.
      class_names: k names.
      sets: types in the prediction set of each photograph; None without a calibration. Not read back.
    """

    ids: list[str]
    labels: Int[np.ndarray, "n"]
    groups: Int[np.ndarray, "n"]
    folds: Int[np.ndarray, "n"]
    probabilities: Float[np.ndarray, "n k"]
    class_names: tuple[str, ...]
    sets: Bool[np.ndarray, "n k"] | None = None

    @classmethod
    def of(
        cls,
        cases: LabelledPhotographs,
        probabilities: Float[np.ndarray, "n k"],
        class_names: Sequence[str],
        sets: Bool[np.ndarray, "n k"] | None = None,
    ) -> "PredictionTable":
        """The table of measured photographs, their probabilities and prediction sets."""
        folds = np.full(len(cases.labels), -1) if cases.folds is None else cases.folds
        return cls(cases.ids, cases.labels, cases.groups, folds, probabilities, tuple(class_names), sets)

    def write(self, path: Path) -> None:
        """Writes `image_name,group,fold,type`, a probability for each class, and `predicted,set`, a row a photograph.

        `type` is the true one, `predicted` the likeliest; the types of a set are separated by spaces.
        """
        names = self.class_names
        with csv_writer(path) as writer:
            writer.writerow([*COLUMNS, *names, *DERIVED])
            for i, name in enumerate(self.ids):
                numbers = (f"{p:.8f}" for p in self.probabilities[i])
                predicted = names[int(self.probabilities[i].argmax())]
                types = "" if self.sets is None else " ".join(names[j] for j in np.flatnonzero(self.sets[i]))
                row = [name, self.groups[i], self.folds[i], names[self.labels[i]], *numbers, predicted, types]
                writer.writerow(row)

    @classmethod
    def read(cls, path: Path) -> "PredictionTable":
        """Reads what `write` wrote.

        Raises:
          TableError: there is no such file, or it is another or a damaged one; names the line.
        """
        try:
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                header, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error) as error:
            raise TableError(f"{path} cannot be read as a table of predictions: {error}") from error
        derived = len(DERIVED) if tuple(header[-len(DERIVED) :]) == DERIVED else 0
        class_names = tuple(header[len(COLUMNS) : len(header) - derived])
        if tuple(header[: len(COLUMNS)]) != COLUMNS or len(class_names) < 2 or not rows:
            raise TableError(
                f"{path} is no table of predictions, whose columns are {', '.join(COLUMNS)}, and the types"
            )
        numbers = []
        for line, row in enumerate(rows, start=2):
            try:
                if len(row) != len(header):
                    raise ValueError(f"it has {len(row)} values and not {len(header)}")
                _, group, fold, label, *probabilities = row[: len(header) - derived]
                values = [float(p) for p in probabilities]
                if label not in class_names:
                    raise ValueError(f"its type is {label!r}")
                if not abs(sum(values) - 1) < 1e-6:
                    raise ValueError("its probabilities do not sum to one")
                numbers.append((int(group), int(fold), class_names.index(label), values))
            except ValueError as error:
                raise TableError(f"{path}, line {line}: {error}") from error
        groups, folds, labels, values = (list(column) for column in zip(*numbers, strict=True))
        return cls(
            [from_cell(row[0]) for row in rows],
            np.array(labels),
            np.array(groups),
            np.array(folds),
            np.array(values),
            class_names,
        )

    @classmethod
    def concatenate(cls, tables: "Sequence[PredictionTable]") -> "PredictionTable":
        """The rows of several tables of the same types, such as those of folds, one after another."""
        if len({table.class_names for table in tables}) != 1:
            raise TableError(f"tables tell apart {' and '.join(sorted({str(t.class_names) for t in tables}))}")
        names = ("labels", "groups", "folds", "probabilities")
        arrays: dict[str, Any] = {name: np.concatenate([getattr(table, name) for table in tables]) for name in names}
        return dataclasses.replace(tables[0], ids=[name for table in tables for name in table.ids], **arrays)

    @staticmethod
    def is_table(path: Path) -> bool:
        """Whether a CSV file has the columns of a table."""
        return tuple(first_row(path)[: len(COLUMNS)]) == COLUMNS

    def take(self, ids: Sequence[str]) -> "PredictionTable":
        """The rows of some photographs, in their order."""
        place = {name: i for i, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        arrays = {name: getattr(self, name)[rows] for name in ("labels", "groups", "folds", "probabilities")}
        return dataclasses.replace(self, ids=list(ids), **arrays)
