"""A localiser measured against boxes that people drew, and its boxes of a folder as a CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from cervix_jax.csv_files import csv_writer
from cervix_jax.images.boxes import iou
from cervix_jax.images.decode import to_stored
from cervix_jax.images.files import UnreadableError, read_bytes
from cervix_jax.inference.bootstrap import PERCENTILES, group_samples
from cervix_jax.inference.image_folder import photographs_in
from cervix_jax.inference.prediction_files import BOX_COLUMNS
from cervix_jax.training.forward import ImageSequence
from cervix_jax.training.localiser import Localiser

RESAMPLES = 1000


@runtime_checkable
class BoxedExamples(Protocol):
    """What is needed of `datasets.pipeline.Examples`, which prediction does not import."""

    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    groups: Int[np.ndarray, "n"]
    boxes: Float[np.ndarray, "n 4"]

    def __len__(self) -> int: ...

    @property
    def images(self) -> ImageSequence:
        """Network inputs."""


def evaluate_boxes(localiser: Localiser, examples: BoxedExamples) -> tuple[dict[str, Any], Float[np.ndarray, "n 5"]]:
    """Metrics of boxes against drawn ones, each with a 95 % interval, ready for JSON; and boxes with confidence.

    `mean_iou`, `median_iou`; `iou_above_0.5` and `iou_above_0.7`: fraction of photographs; `center_error`: distance
    between the centres in each direction, as a fraction of the drawn box's side, on average; `confidence`: on average,
    which is to be `mean_iou`; `confidence_error`: mean absolute difference between confidence and IoU; `by_type`: mean
    IoU; `intervals`: by bootstrap over photographs, near-duplicates together.

    Args:
      localiser: of the same data.
      examples: photographs that have boxes.
    """
    boxes = np.column_stack(localiser.locate(examples.images)).astype(float)
    drawn = examples.boxes.astype(float)
    return box_metrics(boxes, drawn, examples.labels, examples.groups, examples.class_names), boxes


def box_metrics(
    boxes: Float[np.ndarray, "n 5"],
    drawn: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, "n"],
    groups: Int[np.ndarray, "n"],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """See `evaluate_boxes`.

    Args:
      boxes: left, top, right, bottom as fractions of the photograph, and confidence.
      drawn: by people.
      labels: types, indices into the class names.
      groups: near-duplicates have the same number.
      class_names: of the types.
    """
    overlap, confidence = iou(boxes[:, :4], drawn), boxes[:, 4]
    between = np.abs((boxes[:, :2] + boxes[:, 2:4]) - (drawn[:, :2] + drawn[:, 2:])) / 2
    columns = {
        "mean_iou": overlap,
        "iou_above_0.5": overlap > 0.5,
        "iou_above_0.7": overlap > 0.7,
        "center_error": (between / (drawn[:, 2:] - drawn[:, :2])).mean(axis=1),
        "confidence": confidence,
        "confidence_error": np.abs(confidence - overlap),
    }
    metrics: dict[str, Any] = {name: float(values.mean()) for name, values in columns.items()}
    metrics |= {"median_iou": float(np.median(overlap)), "num_examples": len(labels)}
    of_types = {name: overlap[labels == i] for i, name in enumerate(class_names)}
    metrics["by_type"] = {name: float(values.mean()) if len(values) else None for name, values in of_types.items()}
    samples = list(group_samples(groups, RESAMPLES))
    metrics["intervals"] = {
        name: np.percentile([values[rows].mean() for rows in samples], PERCENTILES).tolist()
        for name, values in columns.items()
    }
    medians = [np.median(overlap[rows]) for rows in samples]
    metrics["intervals"]["median_iou"] = np.percentile(medians, PERCENTILES).tolist()
    return metrics


def write_boxes(path: Path, ids: Sequence[str], boxes: Float[np.ndarray, "n 5"]) -> None:
    """Writes `image_name,left,top,right,bottom,confidence`, a row a photograph."""
    with csv_writer(path) as writer:
        writer.writerow(["image_name", *BOX_COLUMNS])
        writer.writerows([name, *(f"{x:.4f}" for x in box)] for name, box in zip(ids, boxes, strict=True))


def locate_folder(localisers: Sequence[Localiser], folder: Path, output: Path) -> dict[str, Any]:
    """Writes `image_name,left,top,right,bottom,confidence`, a row a photograph; sides are fractions of it, upright.

    Args:
      localisers: one, or several: each side is the median of theirs, the confidence the mean.
      folder: searched with its subfolders; or a file.
      output: the CSV file.

    Returns:
      `predicted`: number of photographs; `skipped`: names and reasons of files that cannot be read; `output`: the file;
      `confidence`: the mean.

    Raises:
      NoPhotographsError: the folder holds no photograph.
    """
    skipped, confidences = [], []
    folder, paths = photographs_in(folder)
    with csv_writer(output) as writer:
        writer.writerow(["image_name", *BOX_COLUMNS])
        for path in tqdm(paths, unit="photograph", disable=None):
            name = path.relative_to(folder).as_posix()
            try:
                image = to_stored(read_bytes(path, inside=folder)).image
            except UnreadableError as error:
                skipped.append({"image_name": name, "reason": str(error)})
                continue
            found = [localiser.locate_one(image) for localiser in localisers]
            box = np.median([each.box for each in found], axis=0)
            confidence = float(np.mean([each.confidence for each in found]))
            writer.writerow([name, *(f"{x:.4f}" for x in (*box, confidence))])
            confidences.append(confidence)
    return {
        "predicted": len(confidences),
        "skipped": skipped,
        "output": str(output),
        "confidence": float(np.mean(confidences)) if confidences else None,
    }
