"""The systems of an ensemble side by side: what each work directory says alone of the photographs of all."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float

from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor


def systems(predictor: Predictor) -> dict[str, Predictor]:
    """By name, the runs, or cross-validations, that an ensemble is made of; none of a single one.

    Those that tell other classes apart, one type against the rest, are left out.
    """
    members: dict[Path, list[int]] = {}
    for i, member in enumerate(predictor.members):
        folder = member.workdir.parent if predictor.is_cross_validated else member.workdir
        members.setdefault(folder, []).append(i)
    if len(members) == 1:
        return {}
    names = {folder: folder.name for folder in members}
    if len(set(names.values())) < len(names):  # runs/a/fold0 and runs/b/fold0
        names = {folder: str(folder) for folder in members}
    alone = {
        names[folder]: dataclasses.replace(predictor.uncalibrated, members=tuple(predictor.members[i] for i in rows))
        for folder, rows in members.items()
    }
    return {name: each for name, each in alone.items() if each.class_names == predictor.class_names}


def probabilities_alone(
    predictor: Predictor, cases: LabelledPhotographs, batch_size: int = 32
) -> dict[str, Float[np.ndarray, "n k"]]:
    """What each of `systems` says of photographs that were read for the whole predictor; uncalibrated."""
    return {
        name: _as_read_by(predictor, alone, cases).probabilities(alone, batch_size)
        for name, alone in systems(predictor).items()
    }


def _as_read_by(predictor: Predictor, part: Predictor, cases: LabelledPhotographs) -> LabelledPhotographs:
    """The same photographs with the network inputs of some of the runs."""
    held_out = None
    if cases.held_out is not None:
        held_out = {
            fold: _Selection(photographs, predictor.by_fold[fold], part.by_fold[fold])
            for fold, photographs in cases.held_out.items()
        }
    return dataclasses.replace(cases, photographs=_Selection(cases.photographs, predictor, part), held_out=held_out)


class _Selection(Sequence[Photograph]):
    """Photographs with some of their network inputs, each taken when it is accessed."""

    def __init__(self, photographs: Sequence[Photograph], predictor: Predictor, part: Predictor):
        self._photographs = photographs
        self._places = [predictor.network_inputs.index(each) for each in part.network_inputs]

    def __len__(self) -> int:
        return len(self._photographs)

    @overload
    def __getitem__(self, index: int) -> Photograph: ...

    @overload
    def __getitem__(self, index: slice) -> list[Photograph]: ...

    def __getitem__(self, index: int | slice) -> Photograph | list[Photograph]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        photograph = self._photographs[index]
        images = tuple(photograph.images[place] for place in self._places)
        located = tuple(photograph.located[place] for place in self._places)
        return dataclasses.replace(photograph, images=images, located=located)
