"""Photographs of known type, to measure a predictor on: a split of its data, or a labelled folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int

from cervix_jax.images.files import find_photographs
from cervix_jax.inference.image_folder import NoPhotographsError, read_all
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES


@runtime_checkable
class Examples(Protocol):
    """What is needed of `datasets.pipeline.Examples`, which prediction does not import."""

    labels: Int[np.ndarray, "n"]
    ids: list[str]
    groups: Int[np.ndarray, "n"]

    def __len__(self) -> int: ...

    def jpeg(self, index: int) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class LabelledPhotographs:
    """Photographs and their types.

    Attributes:
      photographs: n of them, as the predictor reads them.
      labels: indices into the predictor's class names.
      ids: names.
      groups: near-duplicates have the same number.
      origin: 'validation', by which the epoch was chosen and a calibration is made; another 'split' of the predictor's
        own data; or a 'folder'.
      skipped: names and reasons of files that cannot be read.
      seen: names of photographs that are left out, since a run was trained on or validated with near-duplicates.
    """

    photographs: Sequence[Photograph]
    labels: Int[np.ndarray, "n"]
    ids: list[str]
    groups: Int[np.ndarray, "n"]
    origin: Literal["validation", "split", "folder"]
    skipped: tuple[dict[str, str], ...] = ()
    seen: tuple[str, ...] = ()


class _LazyPhotographs(Sequence[Photograph]):
    """Examples of a split, each read when it is first accessed: of several processes each reads its own."""

    def __init__(self, predictor: Predictor, examples: Examples):
        self._predictor, self._examples = predictor, examples
        self._photographs: dict[int, Photograph] = {}

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> Photograph: ...

    @overload
    def __getitem__(self, index: slice) -> list[Photograph]: ...

    def __getitem__(self, index: int | slice) -> Photograph | list[Photograph]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        i = range(len(self))[index]
        if i not in self._photographs:
            self._photographs[i] = self._predictor.read_stored(self._examples.jpeg(i))
        return self._photographs[i]


def split_photographs(predictor: Predictor, examples: Examples, split: str) -> LabelledPhotographs:
    """The examples of a split of the predictor's own data, `pipeline.load_dataset(predictor.data_config)`."""
    photographs = _LazyPhotographs(predictor, examples)
    origin: Literal["validation", "split"] = "validation" if split == "validation" else "split"
    return LabelledPhotographs(photographs, examples.labels, examples.ids, examples.groups, origin)


def folder_photographs(predictor: Predictor, folder: Path) -> LabelledPhotographs:
    """Photographs of `folder/Type_1`, `Type_2` and `Type_3` that no run has seen the like of: external validation.

    Args:
      predictor: whose runs recorded which photographs they have seen.
      folder: with the three folders, of which one or two may be missing.

    Raises:
      NoPhotographsError: there is none.
      RunError: a run has not recorded what it has seen.
    """
    subfolders = [folder / name for name in CLASS_NAMES if (folder / name).is_dir()]
    paths = [path for subfolder in subfolders for path in find_photographs(subfolder, inside=folder)]
    if not paths:
        raise NoPhotographsError(f"{folder} holds no pictures in folders {', '.join(CLASS_NAMES)}")
    photographs, labels, ids, skipped = [], [], [], []
    for name, photograph in read_all(predictor, folder, paths, with_features=True):
        if isinstance(photograph, str):
            skipped.append({"image_name": name, "reason": photograph})
        else:
            photographs.append(photograph)
            labels.append(_label(name.split("/")[0], predictor.class_names))
            ids.append(name)
    seen, groups = predictor.has_seen(photographs) if photographs else (np.zeros(0, bool), np.zeros(0, int))
    if seen.all():
        raise NoPhotographsError(
            f"{folder}: no usable pictures: all are unreadable or near-duplicates of training data"
        )
    new = np.flatnonzero(~seen).tolist()
    return LabelledPhotographs(
        photographs=[photographs[i] for i in new],
        labels=np.array(labels)[new],
        ids=[ids[i] for i in new],
        groups=groups[new],
        origin="folder",
        skipped=tuple(skipped),
        seen=tuple(ids[i] for i in np.flatnonzero(seen)),
    )


def _label(type_name: str, class_names: Sequence[str]) -> int:
    """Index of a type in the class names; of one-vs-rest runs, 0 where it belongs to the rest."""
    return class_names.index(type_name) if type_name in class_names else 0
