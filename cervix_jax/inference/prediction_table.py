"""Probabilities of labelled photographs as a CSV file, from which systems are compared without any photograph."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.csv_files import csv_writer, from_cell
from cervix_jax.errors import UserError
from cervix_jax.inference.labelled import LabelledPhotographs

COLUMNS = ("image_name", "group", "fold", "type")  # before the probabilities


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
    """

    ids: list[str]
    labels: Int[np.ndarray, "n"]
    groups: Int[np.ndarray, "n"]
    folds: Int[np.ndarray, "n"]
    probabilities: Float[np.ndarray, "n k"]
    class_names: tuple[str, ...]

    @classmethod
    def of(
        cls, cases: LabelledPhotographs, probabilities: Float[np.ndarray, "n k"], class_names: Sequence[str]
    ) -> "PredictionTable":
        """The table of measured photographs and their probabilities."""
        folds = np.full(len(cases.labels), -1) if cases.folds is None else cases.folds
        return cls(cases.ids, cases.labels, cases.groups, folds, probabilities, tuple(class_names))

    def write(self, path: Path) -> None:
        """Writes `image_name,group,fold,type` and a probability for each class, a row a photograph."""
        with csv_writer(path) as writer:
            writer.writerow([*COLUMNS, *self.class_names])
            for i, name in enumerate(self.ids):
                numbers = (f"{p:.8f}" for p in self.probabilities[i])
                writer.writerow([name, self.groups[i], self.folds[i], self.class_names[self.labels[i]], *numbers])

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
        class_names = tuple(header[len(COLUMNS) :])
        if tuple(header[: len(COLUMNS)]) != COLUMNS or len(class_names) < 2 or not rows:
            raise TableError(
                f"{path} is no table of predictions, whose columns are {', '.join(COLUMNS)}, and the types"
            )
        numbers = []
        for line, row in enumerate(rows, start=2):
            try:
                _, group, fold, label, *probabilities = row
                values = [float(p) for p in probabilities]
                if label not in class_names:
                    raise ValueError(f"its type is {label!r}")
                if len(values) != len(class_names) or not abs(sum(values) - 1) < 1e-6:
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

    def take(self, ids: Sequence[str]) -> "PredictionTable":
        """The rows of some photographs, in their order."""
        place = {name: i for i, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        arrays = {name: getattr(self, name)[rows] for name in ("labels", "groups", "folds", "probabilities")}
        return dataclasses.replace(self, ids=list(ids), **arrays)
