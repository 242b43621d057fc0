"""The boxes that a run's photographs are cropped to, by a localiser that has not learned from theirs.

`config.dataset.crop` names the localiser's work directory; or a folder with one for each fold, `fold0` to `foldN`. In
validation, and for photographs that are in no fold, the localiser of the run's own fold is used, which has not learned
from the boxes of the validation photographs. Training photographs are located by the localiser of their own fold, if
there is one for each, so that training sees boxes like those of prediction; else they are cropped to the boxes that
people drew, and located where nobody did. With 'init' all are located by the localiser of the run that training starts
from, which has learned from the boxes of other photographs.
"""

from pathlib import Path

import ml_collections
import numpy as np
from jaxtyping import Float32

from cervix_jax.atomic import open_atomic
from cervix_jax.config import ConfigError
from cervix_jax.datasets.dataset import PreparedDataset
from cervix_jax.datasets.splits import NO_FOLD
from cervix_jax.images.decode import read_photograph
from cervix_jax.progress import log
from cervix_jax.runs import RECORD
from cervix_jax.training.initial_run import CROP, initial_localiser
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.processes import lead_host_first

SELECTION = ("folds", "split")  # options by which a localiser's folds are those of a run


def crop_boxes(
    config: ml_collections.ConfigDict, data: PreparedDataset
) -> tuple[Localiser, Float32[np.ndarray, "n 5"]]:
    """The localiser that a run carries, and a box for each row of the data set's manifest.

    Boxes are left, top, right, bottom and confidence, which is NaN for those that people drew. All processes call this
    at the same time, since Orbax restores checkpoints together.

    Raises:
      ConfigError: `dataset.crop` names no localiser of this fold, or one that was trained on other data or folds.
      RunError, CheckpointError: it is no localiser, or not trained yet.
    """
    if config.dataset.crop == CROP:
        localiser, rows = initial_localiser(config), range(len(data.manifest.names))
        located = _located(localiser, data, list(rows))
        return localiser, np.stack([located[i] for i in rows]).astype(np.float32)
    folder, fold = Path(config.dataset.crop), config.selection.fold
    by_fold = {i: folder / f"fold{i}" for i in range(config.selection.folds) if (folder / f"fold{i}" / RECORD).exists()}
    if not by_fold and not (folder / RECORD).exists():
        raise ConfigError(f"config.dataset.crop is {config.dataset.crop!r}, which is no work directory of a localiser")
    if by_fold and fold not in by_fold:
        raise ConfigError(f"config.selection.fold is {fold}, and {folder} has no localiser of it, fold{fold}")
    localiser = _restore(by_fold.get(fold, folder), fold, config, data)
    folds = data.assignment.folds
    if len(by_fold) == config.selection.folds:
        localisers = {i: localiser if i == fold else _restore(by_fold[i], i, config, data) for i in by_fold}
        boxes = _located(localiser, data, np.flatnonzero(folds == NO_FOLD).tolist())
        for i, of_fold in localisers.items():
            boxes |= _located(of_fold, data, np.flatnonzero(folds == i).tolist())
    else:
        drawn = np.pad(data.boxes, ((0, 0), (0, 1)), constant_values=np.nan)
        is_drawn = ~np.isnan(drawn[:, 0]) & (folds != fold) & (folds != NO_FOLD)
        boxes = {i: drawn[i] for i in np.flatnonzero(is_drawn).tolist()}
        boxes |= _located(localiser, data, np.flatnonzero(~is_drawn).tolist())
    return localiser, np.stack([boxes[i] for i in range(len(folds))]).astype(np.float32)


def _restore(workdir: Path, fold: int, config: ml_collections.ConfigDict, data: PreparedDataset) -> Localiser:
    localiser = Localiser.restore(workdir)
    if localiser.record["data_fingerprint"] != data.fingerprint:
        raise ConfigError(f"the localiser {workdir} was trained on other photographs than {config.dataset.name} holds")
    if localiser.config.dataset.case_pattern != config.dataset.case_pattern:
        raise ConfigError(f"the localiser {workdir} was trained with another config.dataset.case_pattern: other folds")
    learned = localiser.config.selection
    for name, wanted in (("fold", fold), *((name, config.selection[name]) for name in SELECTION)):
        if learned[name] != wanted:
            raise ConfigError(
                f"the localiser {workdir} has config.selection.{name}={learned[name]!r}, not {wanted!r}: it has "
                "learned from boxes of the photographs that are to validate"
            )
    return localiser


def _located(localiser: Localiser, data: PreparedDataset, rows: list[int]) -> dict[int, Float32[np.ndarray, "5"]]:
    """Boxes and confidence of some rows; kept beside the data set, so that none is located twice."""
    path = Path(data.builder.data_path) / f"boxes-{localiser.digest}.npz"

    def locate() -> Float32[np.ndarray, "n 5"]:
        boxes = _kept_boxes(path, len(data.manifest.names))
        if missing := [i for i in rows if np.isnan(boxes[i, 0])]:
            log(f"locating the cervix in {len(missing)} photographs")
            boxes[missing] = np.column_stack(localiser.locate(_Inputs(localiser, data, missing)))
            with open_atomic(path, "wb") as file:
                np.savez(file, allow_pickle=False, boxes=boxes)
        return boxes

    boxes = lead_host_first(locate)
    return {i: boxes[i] for i in rows}


def _kept_boxes(path: Path, count: int) -> Float32[np.ndarray, "n 5"]:
    """Boxes of all rows of a data set, NaN where none is kept."""
    missing = np.full((count, 5), np.nan, np.float32)
    if not path.exists():
        return missing
    try:
        with path.open("rb") as source, np.load(source, allow_pickle=False) as arrays:
            boxes = arrays["boxes"]
    except Exception:  # as many kinds as there are ways to damage it
        log(f"{path} is damaged; locating the cervix again")
        return missing
    return boxes if boxes.shape == missing.shape else missing


class _Inputs:
    """Network inputs of rows of a data set, each decoded when it is asked for; an `ImageSequence`."""

    def __init__(self, localiser: Localiser, data: PreparedDataset, rows: list[int]):
        self._transform, self._data, self._rows = localiser.transform, data, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        jpeg = self._data.jpeg(self._rows[index])
        return self._transform(read_photograph(jpeg, min_size=self._transform.min_size()))
