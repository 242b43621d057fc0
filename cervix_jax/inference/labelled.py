"""Photographs of known type, to measure a predictor on: a split of its data, or a labelled folder."""

import abc
import bisect
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, overload, runtime_checkable

import ml_collections
import numpy as np
from jaxtyping import Float, Int

from cervix_jax.datasets.cases import find_cases, unite
from cervix_jax.datasets.folders import not_read, types_folder
from cervix_jax.images.files import find_photographs
from cervix_jax.inference.image_folder import NoPhotographsError, read_all
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.progress import log
from cervix_jax.runs import RunError


@runtime_checkable
class Examples(Protocol):
    """What is needed of `datasets.pipeline.Examples`, which prediction does not import."""

    labels: Int[np.ndarray, "n"]
    ids: list[str]
    groups: Int[np.ndarray, "n"]

    def __len__(self) -> int: ...

    def jpeg(self, index: int) -> bytes: ...


class Data(Protocol):
    """What is needed of `datasets.dataset.PreparedDataset`."""

    @property
    def fingerprint(self) -> str: ...

    def examples(self, split: str) -> Any: ...


@dataclasses.dataclass(frozen=True)
class LabelledPhotographs:
    """Photographs and their types.

    Attributes:
      photographs: n of them, as the predictor reads them.
      labels: indices into the predictor's class names.
      ids: names.
      groups: near-duplicates and the photographs of a case have the same number.
      origin: 'validation', by which the epoch was chosen and a calibration is made; another 'split' of the predictor's
        own data; or a 'folder'.
      skipped: names and reasons of files that cannot be read.
      seen: names of photographs that are left out, since a run was trained on or validated with near-duplicates.
      held_out: of a cross-validation, the photographs by the fold that holds them out, in this order, each as the runs
        of that fold read it.
    """

    photographs: Sequence[Photograph]
    labels: Int[np.ndarray, "n"]
    ids: list[str]
    groups: Int[np.ndarray, "n"]
    origin: Literal["validation", "split", "folder"]
    skipped: tuple[dict[str, str], ...] = ()
    seen: tuple[str, ...] = ()
    held_out: Mapping[int, Sequence[Photograph]] | None = None

    def parts(self, predictor: Predictor) -> list[tuple[Predictor, Sequence[Photograph]]]:
        """The photographs, in order, and who may judge them: of a cross-validation, the runs that held them out."""
        if self.held_out is None:
            return [(predictor, self.photographs)]
        return [(predictor.by_fold[fold], photographs) for fold, photographs in self.held_out.items()]

    def probabilities(self, predictor: Predictor, batch_size: int = 32) -> Float[np.ndarray, "n k"]:
        """Of each photograph by a predictor; of a cross-validation by the runs that held it out (out-of-fold)."""
        parts = self.parts(predictor)
        return np.concatenate([runs.probabilities(photographs, batch_size) for runs, photographs in parts])

    def save_embeddings(self, predictor: Predictor, batch_size: int = 32) -> None:
        """Keeps the embeddings of each photograph with the runs that may judge it, for `Predictor.familiarity`."""
        first = 0
        for runs, photographs in self.parts(predictor):
            runs.save_embeddings(photographs, self.groups[first : first + len(photographs)], batch_size)
            first += len(photographs)

    @property
    def folds(self) -> Int[np.ndarray, "n"] | None:
        """The fold that holds out each photograph; None if this is no cross-validation."""
        if self.held_out is None:
            return None
        return np.repeat(list(self.held_out), [len(photographs) for photographs in self.held_out.values()])


class _Photographs(Sequence[Photograph]):
    """A sequence whose photographs are read when they are accessed."""

    @abc.abstractmethod
    def _read(self, i: int) -> Photograph:
        """The photograph at a place, from 0 on."""

    @overload
    def __getitem__(self, index: int) -> Photograph: ...

    @overload
    def __getitem__(self, index: slice) -> list[Photograph]: ...

    def __getitem__(self, index: int | slice) -> Photograph | list[Photograph]:
        places = range(len(self))[index]
        return self._read(places) if isinstance(places, int) else [self._read(i) for i in places]


class _LazyPhotographs(_Photographs):
    """Examples of a split, each read once: of several processes each reads its own."""

    def __init__(self, predictor: Predictor, examples: Examples):
        self._predictor, self._examples = predictor, examples
        self._photographs: dict[int, Photograph] = {}

    def __len__(self) -> int:
        return len(self._examples)

    def _read(self, i: int) -> Photograph:
        if i not in self._photographs:
            self._photographs[i] = self._predictor.read_stored(self._examples.jpeg(i))
        return self._photographs[i]


class _Chain(_Photographs):
    """Sequences one after another."""

    def __init__(self, sequences: Sequence[Sequence[Photograph]]):
        self._sequences = sequences
        self._starts = np.cumsum([0, *map(len, sequences)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _read(self, i: int) -> Photograph:
        part = bisect.bisect_right(self._starts, i) - 1
        return self._sequences[part][i - self._starts[part]]


def split_photographs(
    predictor: Predictor, load: Callable[[ml_collections.ConfigDict], Data], split: str
) -> LabelledPhotographs:
    """The photographs of a split of the predictor's own data; of a cross-validation all of its folds validate.

    Args:
      predictor: one run, an ensemble or a cross-validation.
      load: the data set of a config, `dataset.load_dataset`.
      split: 'train', 'validation' or 'test'.

    Raises:
      RunError: the runs were trained on other photographs, or are a cross-validation, of which no split is 'train'.
    """
    origin: Literal["validation", "split"] = "validation" if split == "validation" else "split"
    if not predictor.is_cross_validated or split == "test":
        data = load(predictor.data_config)
        predictor.check_data(data.fingerprint)
        examples = data.examples(split)
        photographs = _LazyPhotographs(predictor, examples)
        return LabelledPhotographs(photographs, examples.labels, list(examples.ids), examples.groups, origin)
    if split == "train":
        raise RunError(
            f"{predictor.name} is a cross-validation: each of its photographs validates once and trains otherwise; "
            "measure it with --split=validation, or one of its runs"
        )
    held_out: dict[int, Sequence[Photograph]] = {}
    parts = []
    for fold, runs in predictor.by_fold.items():
        data = load(runs.data_config)
        predictor.check_data(data.fingerprint)
        examples = data.examples("validation")
        held_out[fold] = _LazyPhotographs(runs, examples)
        parts.append(examples)
    return LabelledPhotographs(
        photographs=_Chain(list(held_out.values())),
        labels=np.concatenate([examples.labels for examples in parts]),
        ids=[name for examples in parts for name in examples.ids],
        groups=np.concatenate([examples.groups for examples in parts]),
        origin="validation",
        held_out=held_out,
    )


def folder_photographs(predictor: Predictor, folder: Path, case_pattern: str | None = None) -> LabelledPhotographs:
    """Photographs of known type of which, and of whose cases, no run has seen the like: external validation.

    Args:
      predictor: whose runs recorded which photographs they have seen.
      folder: with `Type_1`, `Type_2` and `Type_3`, of which one or two may be missing, or with `train` that has them;
        and with `cases.csv`, if there is one.
      case_pattern: see `cases.cases_by_pattern`.

    Raises:
      NoPhotographsError: there is none.
      RunError: a run has not recorded what it has seen.
      CaseError: the cases cannot be read.
    """
    if not folder.is_dir():
        raise NoPhotographsError(f"there is no folder {folder}")
    types = types_folder(folder)
    subfolders = [types / name for name in CLASS_NAMES if (types / name).is_dir()]
    paths = [path for subfolder in subfolders for path in find_photographs(subfolder, inside=folder)]
    if not paths:
        raise NoPhotographsError(f"{folder} holds no pictures in folders {', '.join(CLASS_NAMES)}")
    counts = [f"{name} {sum(path.is_relative_to(types / name) for path in paths)}" for name in CLASS_NAMES]
    for line in (f"found in {types}: {', '.join(counts)}", *not_read(folder)):
        log(line)
    photographs, labels, ids, skipped = [], [], [], []
    for name, photograph in read_all(predictor, folder, paths, with_features=True):
        if isinstance(photograph, str):
            skipped.append({"image_name": name, "reason": photograph})
        else:
            photographs.append(photograph)
            labels.append(_label(name.removeprefix("train/").split("/")[0], predictor.class_names))
            ids.append(name)
    for subfolder in subfolders:  # a type that vanishes would be measured as if it did not exist
        place = f"{subfolder.relative_to(folder).as_posix()}/"
        if not any(name.startswith(place) for name in ids):
            reasons = sorted({row["reason"] for row in skipped if row["image_name"].startswith(place)})
            raise NoPhotographsError(f"no picture of {subfolder} can be read: {', '.join(reasons) or 'it holds none'}")
    cases = find_cases(folder, [path.relative_to(folder).as_posix() for path in paths], case_pattern)
    seen, groups = predictor.has_seen(photographs) if photographs else (np.zeros(0, bool), np.zeros(0, int))
    groups = unite(groups, ids, {name: cases[name] for name in ids if name in cases})
    seen = np.isin(groups, groups[seen])
    if seen.all():
        raise NoPhotographsError(
            f"{folder}: no usable pictures: all are unreadable, near-duplicates of training data, or of the same cases"
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
