"""A calibration for a site: for one hospital and its camera, from labelled photographs of its own.

The photographs are split into folds that keep near-duplicates and cases together. What is fitted on all but one fold
scales the photographs of that fold, so that each is in the reference with probabilities that nothing was fitted to. Of
a temperature and vector scaling that of less out-of-fold loss is used, if its gain can be told from chance; else
probabilities stay as they are. A new photograph, scaled by all, is compared with the reference of each fold as that
fold's scaling sees it (CV+).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.inference.array_namespace import ArrayT
from cervix_jax.inference.bootstrap import mean_intervals
from cervix_jax.inference.calibration import TEMPERATURE_BOUNDS, Calibration, CalibrationError
from cervix_jax.inference.case_predictions import best_rule
from cervix_jax.inference.scaling import METHODS, Scaling

SITE_PREFIX = "site-"  # of the names of files
FOLDS = 5
MIN_GROUPS, MIN_OF_TYPE = 20, 5  # cases in all, and of each type; with fewer nothing can be told


@dataclasses.dataclass(frozen=True)
class SiteCalibration(Calibration):
    """What was fitted for one predictor at one site; `folds` are those of the site's photographs.

    Attributes:
      temperature: of a vector scaling the inverse of its mean slope.
      scaling: of new photographs.
      fold_scalings: by which the reference photographs of each fold, in order, were scaled.
      digests: SHA-256 of the reference photographs as data sets store them, by which they are known again.
    """

    scaling: Scaling = dataclasses.field(kw_only=True)
    fold_scalings: tuple[Scaling, ...] = dataclasses.field(kw_only=True)
    digests: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

    def apply(self, probabilities: Float[ArrayT, "n k"]) -> Float[ArrayT, "n k"]:
        """Scales probabilities of the predictor that this was fitted for."""
        return self.scaling.apply(probabilities)

    def crossed(
        self, probabilities: Float[np.ndarray, "n k"], by_fold: Float[np.ndarray, "f n k"] | None
    ) -> Float[np.ndarray, "f n k"]:
        """The same probabilities, scaled as the reference photographs of each fold were; `by_fold` is not read."""
        return np.stack([scaling.apply(probabilities) for scaling in self.fold_scalings])

    @classmethod
    def load_site(cls, path: Path, predictor: str) -> "SiteCalibration":
        """Reads what `save` wrote.

        Raises:
          CalibrationError: there is no such file, or it is damaged or was made for another predictor.
        """
        calibration = cls.load(path, predictor)
        if calibration is None:
            known = sorted(file.name.removeprefix(SITE_PREFIX) for file in path.parent.glob(f"{SITE_PREFIX}*.json"))
            sites = sorted({name.rpartition("-")[0] for name in known if name.endswith(f"-{predictor}.json")})
            raise CalibrationError(
                f"these runs with these flags have no calibration for this --site ({', '.join(sites) or 'nor another'})"
                ": python -m cervix_jax.calibrate --images=FOLDER --site=NAME with the same --workdir makes it"
            )
        return calibration

    @classmethod
    def _from_json(cls, fields: dict[str, Any]) -> dict[str, Any]:
        def scaling(values: dict[str, Any]) -> Scaling:
            return Scaling(tuple(values["slopes"]), tuple(values["biases"]))

        return super()._from_json(fields) | {
            "scaling": scaling(fields["scaling"]),
            "fold_scalings": tuple(map(scaling, fields["fold_scalings"])),
            "digests": tuple(fields["digests"]),
        }

    def _check(self) -> None:
        super()._check()
        k = self.probabilities.shape[1]
        for scaling in (self.scaling, *self.fold_scalings):
            numbers = np.array([scaling.slopes, scaling.biases])
            if numbers.shape != (2, k) or not np.isfinite(numbers).all() or min(scaling.slopes) < 0:
                raise ValueError("its scalings do not fit its probabilities")

    def _num_folds(self) -> int:
        return len(self.fold_scalings)


def calibrate_site(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    ids: Sequence[str],
    groups: Int[np.ndarray, "n"],
    digests: Sequence[str] = (),
) -> SiteCalibration:
    """Chooses and fits the scaling.

    Args:
      probabilities: uncalibrated, of photographs of the site.
      labels: their types, 0 to k - 1.
      ids: their names, by which they are split.
      groups: near-duplicates and the photographs of a case have the same number.
      digests: see `SiteCalibration`.

    Returns:
      `measured` has `scaling`: the method; `losses`: out-of-fold, by method; `kept`: why none is used, None if one is;
      `cases`: see `best_rule`.
    """
    folds = stratified_folds(ids, labels, FOLDS, groups)
    scalings, after, losses = {}, {}, {}
    for name, fit in METHODS.items():
        scalings[name] = tuple(fit(probabilities[folds != f], labels[folds != f]) for f in range(FOLDS))
        after[name] = probabilities.copy()
        for fold, scaling in enumerate(scalings[name]):
            after[name][folds == fold] = scaling.apply(probabilities[folds == fold])
        losses[name] = log_losses(after[name], labels)
    others = [name for name in METHODS if name != "none"]
    gains = np.stack([losses["none"] - losses[name] for name in others], axis=1)
    limits = mean_intervals(gains, groups)
    helping = [name for name, (low, _) in zip(others, limits, strict=True) if low > 0]
    method = min(helping, key=lambda name: float(losses[name].mean()), default="none")
    fitted = METHODS[method](probabilities, labels)
    mean_slope = float(np.mean(fitted.slopes))
    return SiteCalibration(
        temperature=float(np.clip(1 / max(mean_slope, 1e-9), *TEMPERATURE_BOUNDS)),
        probabilities=after[method],
        labels=labels,
        measured={
            "scaling": method,
            "losses": {name: float(values.mean()) for name, values in losses.items()},
            "kept": None if helping else "no scaling lowers the out-of-fold loss by more than chance may",
            "cases": best_rule(after[method], labels, groups),
        },
        folds=folds,
        groups=groups,
        scaling=fitted,
        fold_scalings=scalings[method],
        digests=tuple(digests),
    )


def check_enough(labels: Int[np.ndarray, "n"], groups: Int[np.ndarray, "n"], class_names: Sequence[str]) -> None:
    """Raises CalibrationError unless there are MIN_GROUPS cases, and MIN_OF_TYPE of each type."""
    total = len(np.unique(groups))
    counts = {name: len(np.unique(groups[labels == i])) for i, name in enumerate(class_names)}
    if total < MIN_GROUPS or min(counts.values()) < MIN_OF_TYPE:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise CalibrationError(
            f"the calibration of a site needs {MIN_GROUPS} cases (near-duplicates count as one), {MIN_OF_TYPE} of each "
            f"type; there are {total}: {listed}"
        )


def log_losses(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Cross-entropy of each photograph in nats."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
