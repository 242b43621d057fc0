"""Probabilities for every photograph of a folder, as the CSV that Kaggle takes."""

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from cervix_jax.data.photographs import UnreadableError, find_photographs, read_bytes
from cervix_jax.errors import UserError
from cervix_jax.inference.predictor import Predictor


class NoPhotographsError(UserError):
    """A folder is missing or holds no file that is named like a picture."""


def predict_folder(
    predictor: Predictor, folder: Path, output: Path, *, fill_prior: bool = False, batch_size: int = 32
) -> dict[str, Any]:
    """Writes `image_name,Type_1,Type_2,Type_3`, a row a photograph; names are paths inside the folder.

    Args:
      predictor: a restored run.
      folder: searched with its subfolders.
      output: the CSV file.
      fill_prior: give files that cannot be read the class shares of the training set instead of leaving them out.
      batch_size: photographs held in memory at a time.

    Returns:
      `predicted`: number of photographs; `skipped`: names and reasons of files that could not be read; `output`.

    Raises:
      NoPhotographsError: there is nothing to predict.
    """
    paths = find_photographs(folder) if folder.is_dir() else []
    if not paths:
        raise NoPhotographsError(f"{folder} holds no pictures" if folder.is_dir() else f"there is no folder {folder}")
    skipped: list[dict[str, str]] = []
    partial = output.with_name(output.name + ".partial")
    output.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # names as they are on disk
        # Only what is in the terminator is quoted for sure, and names may hold carriage returns; lines end in \n.
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        writer = csv.writer(lines, lineterminator="\r\n")
        writer.writerow(["image_name", *predictor.class_names])
        for names, rows, failed in _batches(predictor, folder, paths, batch_size):
            skipped += [{"image_name": name, "reason": reason} for name, reason in failed.items()]
            table = dict(zip(names, rows, strict=True))
            if fill_prior:
                table |= {name: np.asarray(predictor.class_shares) for name in failed}
            writer.writerows([name, *(f"{p:.8f}" for p in row)] for name, row in table.items())
    partial.replace(output)
    return {"predicted": len(paths) - len(skipped), "skipped": skipped, "output": str(output)}


def _batches(
    predictor: Predictor, folder: Path, paths: list[Path], batch_size: int
) -> Iterator[tuple[list[str], Float[np.ndarray, "b k"], dict[str, str]]]:
    """Names and probabilities of those that could be read, names and reasons of the others."""

    def read(path: Path) -> UInt8[np.ndarray, "h w 3"] | str:
        try:
            return predictor.read(read_bytes(path, inside=folder))
        except UnreadableError as error:
            return str(error)

    with ThreadPoolExecutor(2) as threads, tqdm(total=len(paths), unit="photograph", disable=None) as bar:
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            found = {
                p.relative_to(folder).as_posix(): image for p, image in zip(part, threads.map(read, part), strict=True)
            }
            images = {name: image for name, image in found.items() if not isinstance(image, str)}
            failed = {name: reason for name, reason in found.items() if isinstance(reason, str)}
            rows = predictor.probabilities(np.stack(list(images.values())), batch_size) if images else np.zeros((0, 3))
            bar.update(len(part))
            yield list(images), rows, failed
