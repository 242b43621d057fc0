"""Labels that a model which has not seen the photograph confidently contradicts: confident learning.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.csv_files import from_cell, read_rows
from cervix_jax.datasets.splits import Manifest
from cervix_jax.errors import UserError
from cervix_jax.labels import CLASS_NAMES


class PredictionsError(UserError):
    """A file does not hold predictions of the photographs that are audited."""


def suspicious_findings(manifest: Manifest, predictions: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, name of the photograph and detail of each suspicious label, the most contradicted first.

    Args:
      manifest: the photographs.
      predictions: CSV with `image_name` and a probability for each type, such as `oof.csv` of a cross-validation.
        Predictions by a model that was trained on the photograph hide what is sought.

    Raises:
      PredictionsError: the file cannot be read, or is of none of the photographs.
    """
    probabilities = _read(predictions)
    rows = [i for i, name in enumerate(manifest.names) if name in probabilities and manifest.labels[i] >= 0]
    if not rows:
        raise PredictionsError(f"{predictions} has no prediction of a labelled photograph of this folder")
    of_rows, labels = np.array([probabilities[manifest.names[i]] for i in rows]), manifest.labels[rows]
    suggested = confident_types(of_rows, labels)
    for i in np.argsort(of_rows[np.arange(len(rows)), labels], kind="stable").tolist():
        if suggested[i] not in (-1, labels[i]):
            given, other = (f"{CLASS_NAMES[k]} {of_rows[i, k]:.2f}" for k in (labels[i], suggested[i]))
            yield "suspicious_label", manifest.names[rows[i]], f"labelled {given}, predicted {other}"


def confident_types(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The type that a prediction is confident of, -1 if it is of none.

    It is confident of a type whose probability is at least the mean of that probability over the examples with that
    label; of several such types, of the likeliest (equations 1 and 2).

    Args:
      probabilities: by a model that has not seen the example.
      labels: as given, 0 to k - 1, some of which may be wrong.
    """
    types = range(probabilities.shape[1])
    thresholds = [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in types]
    confident = np.where(probabilities >= np.array(thresholds) - 1e-9, probabilities, -1.0)  # means round
    return np.where(confident.max(axis=1) < 0, -1, confident.argmax(axis=1))


def _read(path: Path) -> dict[str, list[float]]:
    probabilities = {}
    for line, row in read_rows(path, ("image_name", *CLASS_NAMES), PredictionsError):
        try:
            probabilities[from_cell(row["image_name"])] = [float(row[name]) for name in CLASS_NAMES]
        except ValueError as error:
            raise PredictionsError(f"{path}, line {line}: {error}") from error
    return probabilities
