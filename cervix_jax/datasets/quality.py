"""Whether a photograph is fit to be judged: sharp, well lit, filled by the cervix, and like what the network has seen.

The reference are the initial photographs that a run trains on. A new one is set against them in each respect: its rank
among theirs is the share of them that are as bad or worse. One that is worse than all but a hundredth of them in some
respect should be taken again, and the respect says how (beside a reference of fewer than 100, none is). All respects
are functions of the scores that cleaning uses (`features.py`), so no photograph is looked at twice.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped
from PIL import Image

from cervix_jax.datasets.cleaning import Gaussian, cross_fitted_log_density
from cervix_jax.datasets.splits import INITIAL, Manifest, SplitAssignment, stratified_folds
from cervix_jax.images import features, near_duplicates
from cervix_jax.images.geometry import CropResize

RETAKE = 0.01  # rank below which a photograph should be taken again
REASONS = {
    "sharpness": "blurred",
    "darkness": "too dark",
    "brightness": "too bright",
    "framing": "badly framed",
    "log_density": "not like the training pictures",
}
_BLACK = 0  # bin of the darkest 17 levels, as around a round field of view


class ImageFeatures(NamedTuple):
    """What is looked at in one photograph: `features.colour_histograms` and `features.sharpness`."""

    histograms: Float32[np.ndarray, "456"]
    sharpness: float

    @classmethod
    def of(cls, image: Image.Image) -> "ImageFeatures":
        """Of a photograph as a data set stores it."""
        pixels = CropResize(features.FEATURE_SIZE)(image)
        return cls(features.colour_histograms(pixels), features.sharpness(pixels))


@dataclasses.dataclass(frozen=True)
class QualityAssessment:
    """A photograph beside the reference.

    Attributes:
      ranks: share of the reference that is as bad or worse, by the keys of REASONS.
      values: of what is ranked, by the same keys.
    """

    ranks: dict[str, float]
    values: dict[str, float]

    @property
    def rank(self) -> float:
        """The least."""
        return min(self.ranks.values())

    @property
    def retake(self) -> str:
        """What is wrong, worst first; '' if nothing is."""
        wrong = sorted((rank, REASONS[name]) for name, rank in self.ranks.items() if rank < RETAKE)
        return " | ".join(reason for _, reason in wrong)


@dataclasses.dataclass(frozen=True)
class QualityReference:
    """What usable photographs look like.

    Attributes:
      gaussian: of the colours of the reference.
      reference: values of the reference by the keys of REASONS, each sorted; higher is better. Densities are
        cross-fitted, so that they compare with those of new photographs.
      seen: `near_duplicates.signature` of all photographs that the run trained on or validated with, as it saw them.
    """

    gaussian: Gaussian
    reference: dict[str, Float[np.ndarray, "n"]]
    seen: Shaped[np.ndarray, "m"]

    @classmethod
    def fit(cls, manifest: Manifest, assignment: SplitAssignment, seen: Shaped[np.ndarray, "m"]) -> "QualityReference":
        """By the initial photographs on the training side of a selection."""
        split = np.array(assignment.split)
        rows = np.flatnonzero(manifest.of(INITIAL) & (split == "train")).tolist()
        looks = [_looks(ImageFeatures(manifest.histograms[i], float(manifest.sharpness[i]))) for i in rows]
        reference = {name: np.sort([look[name] for look in looks]) for name in looks[0]}
        density = assignment.log_density[rows]
        if np.isnan(density).any():  # cleaning had nothing to compare with
            folds = stratified_folds([manifest.names[i] for i in rows], manifest.labels[rows], 5, manifest.groups[rows])
            density = cross_fitted_log_density(manifest.histograms[rows], folds)
        reference["log_density"] = np.sort(density)
        return cls(Gaussian.fit(manifest.histograms[rows]), reference, seen)

    def assess(self, photograph: ImageFeatures) -> QualityAssessment:
        """Ranks a photograph."""
        density = float(self.gaussian.log_density(photograph.histograms[None])[0])
        values = _looks(photograph) | {"log_density": density}
        ranks = {name: _rank(value, self.reference[name]) for name, value in values.items()}
        return QualityAssessment(ranks, values)

    def has_seen(self, signatures: Shaped[np.ndarray, "n"]) -> tuple[Bool[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Whether the run trained on, or validated with, near-duplicates of photographs; and the groups these form.

        Args:
          signatures: `near_duplicates.signature` of the photographs as the run sees them.
        """
        groups = near_duplicates.groups(np.concatenate([self.seen, signatures]))
        known, own = np.split(groups, [len(self.seen)])
        return np.isin(own, known), own

    def save(self, path: Path) -> None:
        """Writes it, at once."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            arrays: dict[str, Any] = dataclasses.asdict(self.gaussian) | self.reference
            np.savez(file, allow_pickle=False, seen=self.seen, **arrays)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "QualityReference | None":
        """Reads it; None if there is none."""
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            gaussian = Gaussian(**{field.name: arrays[field.name] for field in dataclasses.fields(Gaussian)})
            return cls(gaussian, {name: arrays[name] for name in REASONS}, arrays["seen"])


def _looks(photograph: ImageFeatures) -> dict[str, float]:
    """All respects but the density; higher is better.

    Darkness and brightness are the mean level, 0 to 255, by the 17 bins of the whole picture; framing is the share of
    it that is not black, by the lowest of 15 bins of the cells.
    """
    whole = photograph.histograms[: 3 * features.WHOLE_BINS].reshape(3, features.WHOLE_BINS)
    cells = photograph.histograms[3 * features.WHOLE_BINS :].reshape(-1, 3, features.CELL_BINS)
    centres = (np.arange(features.WHOLE_BINS) + 0.5) * 256 / features.WHOLE_BINS
    level = float((whole @ centres).mean())
    black = float(cells[:, :, _BLACK].min(axis=1).mean())
    return {"sharpness": photograph.sharpness, "darkness": level, "brightness": -level, "framing": 1 - black}


def _rank(value: float, reference: Float[np.ndarray, "n"]) -> float:
    """Share of the reference, and the value, that is at most the value."""
    return (1 + float(np.searchsorted(reference, value, side="right"))) / (1 + len(reference))
