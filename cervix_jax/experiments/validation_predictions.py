"""`validation.csv` of a run: its probabilities for the validation photographs, all that tables and ensembles need."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.csv_files import csv_writer, from_cell

FILE_NAME = "validation.csv"


@dataclasses.dataclass(frozen=True)
class ValidationPredictions:
    """Predictions at the epoch of least validation loss.

    Attributes:
      ids: paths of the photographs inside the raw folder.
      labels: indices into `class_names`.
      class_names: the three types, or 'rest' and one type.
      probabilities: rows sum to one.
    """

    ids: Sequence[str]
    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    probabilities: Float[np.ndarray, "n k"]

    @classmethod
    def read(cls, folder: Path) -> "ValidationPredictions":
        """Reads what `write` wrote to a run's folder."""
        with (folder / FILE_NAME).open(newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        return cls(
            ids=[from_cell(line[0]) for line in lines],
            labels=np.array([int(line[1]) for line in lines]),
            class_names=tuple(header[2:]),
            probabilities=np.array([[float(x) for x in line[2:]] for line in lines]),
        )

    def write(self, folder: Path) -> None:
        """Columns: image_name, label (an index), a probability for each class, to the last digit."""
        with csv_writer(folder / FILE_NAME) as writer:
            writer.writerow(["image_name", "label", *self.class_names])
            for name, label, row in zip(self.ids, self.labels, self.probabilities, strict=True):
                writer.writerow([name, int(label), *map(repr, row.tolist())])
