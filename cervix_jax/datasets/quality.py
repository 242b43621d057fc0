"""Quality control of photographs: sharp, well lit, the cervix in full, and in the distribution of the training set.

The reference is the initial photographs that a run trains on. A photograph's rank by a criterion is the fraction of the
reference that is as bad or worse. If any rank is below 0.01 the photograph should be taken again, and the criterion
says why (with a reference of fewer than 100 photographs, none is). Criteria are functions of the features that cleaning
uses (`features.py`), so none is computed twice; and, where a run has a localiser, of the box that it finds. The
reference of these is the validation photographs, from whose boxes the localiser has not learned. How familiar a
photograph is to the network comes from elsewhere (`inference/outliers.py`).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped
from PIL import Image

from cervix_jax.atomic import open_atomic
from cervix_jax.datasets.cleaning import Gaussian, cross_fitted_log_density
from cervix_jax.datasets.splits import INITIAL, Manifest, SplitAssignment, stratified_folds
from cervix_jax.errors import UserError
from cervix_jax.images import features, near_duplicates
from cervix_jax.images.boxes import LocatedBox
from cervix_jax.images.geometry import CropResize

RETAKE = 0.01  # rank below which a photograph should be taken again
REASONS = {  # by criterion
    "sharpness": "blurred",
    "darkness": "too dark",
    "brightness": "too bright",
    "framing": "badly framed",
    "log_density": "not like the training pictures",
    "familiarity": "unlike what the network knows",
    "confidence": "no cervix found",
    "cervix_size": "cervix too small",
    "cervix_whole": "cervix cut off by the border",
    "cervix_centered": "cervix far from the middle",
}
_ALWAYS = 5  # criteria that need no localiser
_EDGE = 0.01  # distance from the border, as a fraction of the photograph, at which a side of a box touches it
_BLACK = 0  # the cells' bin of the darkest 17 levels, as around a round field of view


class QualityReferenceError(UserError):
    """The file of a quality reference is damaged; the message names it and what to do."""


class ImageFeatures(NamedTuple):
    """`features.colour_histograms` and `features.sharpness` of one photograph."""

    histograms: Float32[np.ndarray, "456"]
    sharpness: float

    @classmethod
    def of(cls, image: Image.Image) -> "ImageFeatures":
        """Extracts them from a photograph as data sets store it, `decode.StoredPhotograph.image`."""
        pixels = CropResize(features.FEATURE_SIZE)(image)
        return cls(features.colour_histograms(pixels), features.sharpness(pixels))


@dataclasses.dataclass(frozen=True)
class QualityAssessment:
    """How a photograph compares with the reference.

    Attributes:
      ranks: fraction of the reference that is as bad or worse, by criterion, above 0 and at most 1.
      values: the values that are ranked, by criterion; higher is better.
    """

    ranks: dict[str, float]
    values: dict[str, float]

    def with_rank(self, name: str, rank: float) -> "QualityAssessment":
        """And a criterion that the reference does not hold, of REASONS."""
        return dataclasses.replace(self, ranks=self.ranks | {name: rank})

    @property
    def rank(self) -> float:
        """The lowest of the ranks."""
        return min(self.ranks.values())

    @property
    def retake(self) -> str:
        """Why the photograph should be taken again, worst first; '' if it need not."""
        failed = sorted((rank, REASONS[name]) for name, rank in self.ranks.items() if rank < RETAKE)
        return " | ".join(reason for _, reason in failed)


@dataclasses.dataclass(frozen=True)
class QualityReference:
    """The distribution of the photographs that a run trained on.

    Attributes:
      gaussian: distribution of their colour histograms.
      values: their values by criterion, each sorted; higher is better. Densities are out-of-fold, so that they compare
        with those of new photographs. Those of boxes are missing without a localiser.
      seen: `near_duplicates.signature` of all photographs that the run trained on or validated with, as it saw them.
    """

    gaussian: Gaussian
    values: dict[str, Float[np.ndarray, "n"]]
    seen: Shaped[np.ndarray, "m"]

    @classmethod
    def fit(
        cls,
        manifest: Manifest,
        assignment: SplitAssignment,
        seen: Shaped[np.ndarray, "m"],
        located: Sequence[LocatedBox] = (),
    ) -> "QualityReference":
        """Fits the initial photographs of the split 'train', and boxes.

        Args:
          manifest: of the data set.
          assignment: its splits.
          seen: see the class.
          located: boxes of photographs from which the localiser has not learned; none without a localiser.
        """
        split = np.array(assignment.split)
        rows = np.flatnonzero(manifest.of(INITIAL) & (split == "train")).tolist()
        criteria = [_criteria(ImageFeatures(manifest.histograms[i], float(manifest.sharpness[i]))) for i in rows]
        values = {name: np.sort([each[name] for each in criteria]) for name in criteria[0]}
        density = assignment.log_density[rows]
        if np.isnan(density).any():  # cleaning had nothing to compare with
            folds = stratified_folds([manifest.names[i] for i in rows], manifest.labels[rows], 5, manifest.groups[rows])
            density = cross_fitted_log_density(manifest.histograms[rows], folds)
        values["log_density"] = np.sort(density)
        of_boxes = [_box_criteria(box) for box in located]
        values |= {name: np.sort([each[name] for each in of_boxes]) for name in (of_boxes[0] if of_boxes else ())}
        return cls(Gaussian.fit(manifest.histograms[rows]), values, seen)

    def assess(self, photograph: ImageFeatures, located: LocatedBox | None = None) -> QualityAssessment:
        """Ranks a photograph by every criterion; by those of its box if it was located."""
        density = float(self.gaussian.log_density(photograph.histograms[None])[0])
        values = _criteria(photograph) | {"log_density": density}
        if located is not None and "confidence" in self.values:
            values |= _box_criteria(located)
        ranks = {name: _rank(value, self.values[name]) for name, value in values.items()}
        return QualityAssessment(ranks, values)

    def has_seen(self, signatures: Shaped[np.ndarray, "n"]) -> tuple[Bool[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Mask of photographs that are near-duplicates of those that the run trained on or validated with; and groups.

        Args:
          signatures: `near_duplicates.signature` of the photographs as the run sees them.

        Returns:
          The mask, and a number for each photograph that its near-duplicates share.
        """
        groups = near_duplicates.groups(np.concatenate([self.seen, signatures]))
        seen, new = np.split(groups, [len(self.seen)])
        return np.isin(new, seen), new

    def save(self, path: Path) -> None:
        """Writes an NPZ file without pickles."""
        arrays: dict[str, Any] = dataclasses.asdict(self.gaussian) | self.values
        with open_atomic(path, "wb") as file:
            np.savez(file, allow_pickle=False, seen=self.seen, **arrays)

    @classmethod
    def load(cls, path: Path) -> "QualityReference | None":
        """Reads what `save` wrote; None if there is no such file.

        Raises:
          QualityReferenceError: the file is damaged.
        """
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                gaussian = Gaussian(**{field.name: arrays[field.name] for field in dataclasses.fields(Gaussian)})
                values = {name: arrays[name] for name in REASONS if name in arrays}
                reference = cls(gaussian, values, arrays["seen"])
            reference._check()
        except Exception as error:  # as many kinds as there are ways to damage it
            raise QualityReferenceError(
                f"{path} is damaged; rerun the command that trained the run, which writes it again"
            ) from error
        return reference

    def _check(self) -> None:
        """Raises ValueError for arrays that no reference has."""
        size, normal = features.NUM_FEATURES, self.gaussian
        if (normal.mean.shape, normal.axes.shape, normal.variances.shape) != ((size,), (size, size), (size,)):
            raise ValueError("its distribution has other features")
        if any(values.ndim != 1 or not len(values) for values in self.values.values()) or len(self.values) < _ALWAYS:
            raise ValueError("it has no values of a criterion")
        if self.seen.ndim != 1 or self.seen.dtype != near_duplicates.SIGNATURE:
            raise ValueError("it does not say what was seen")
        if not all(np.isfinite(array).all() for array in (*vars(normal).values(), *self.values.values())):
            raise ValueError("a number is not finite")
        if not (normal.variances > 0).all():
            raise ValueError("a variance is not positive")


def _criteria(photograph: ImageFeatures) -> dict[str, float]:
    """Values of all criteria but the density; higher is better.

    Darkness and brightness are the mean level, 0 to 255, from the 17 bins of the whole picture, and its negative;
    framing is the fraction of the picture that is not black, from the lowest of the 15 bins of the cells.
    """
    whole = photograph.histograms[: 3 * features.WHOLE_BINS].reshape(3, features.WHOLE_BINS)
    cells = photograph.histograms[3 * features.WHOLE_BINS :].reshape(-1, 3, features.CELL_BINS)
    centres = (np.arange(features.WHOLE_BINS) + 0.5) * 256 / features.WHOLE_BINS
    level = float((whole @ centres).mean())
    black = float(cells[:, :, _BLACK].min(axis=1).mean())
    return {"sharpness": photograph.sharpness, "darkness": level, "brightness": -level, "framing": 1 - black}


def _box_criteria(located: LocatedBox) -> dict[str, float]:
    """Values of all criteria of a box; higher is better.

    Its confidence; its area as a fraction of the photograph; the negative of the fraction of its outline that lies on
    the border of the photograph; the negative distance of its centre from the middle, along the worse axis.
    """
    left, top, right, bottom = located.box
    width, height = right - left, bottom - top
    on_border = (
        height * ((left <= _EDGE) + (right >= 1 - _EDGE)) + width * ((top <= _EDGE) + (bottom >= 1 - _EDGE))
    ) / max(2 * (width + height), 1e-6)
    off_center = max(abs(left + right - 1), abs(top + bottom - 1)) / 2
    return {
        "confidence": located.confidence,
        "cervix_size": width * height,
        "cervix_whole": -on_border,
        "cervix_centered": -off_center,
    }


def _rank(value: float, reference: Float[np.ndarray, "n"]) -> float:
    """Fraction of the reference and the value itself that is at most the value."""
    return (1 + float(np.searchsorted(reference, value, side="right"))) / (1 + len(reference))
