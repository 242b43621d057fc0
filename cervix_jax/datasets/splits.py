"""Assigns photographs to train, validation, test or rejected (report sections 4, 10 and 15).

Splits are assigned from a manifest of features, not from pixels, so another fold or another tolerance takes less than a
second and rebuilds nothing. Nothing that is fitted here sees the validation fold, unless the report's way is asked for:
the Gaussian and the sharpness threshold come from the initial photographs of the other folds.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from cervix_jax.datasets.cleaning import Gaussian, closest, cross_fitted_log_density
from cervix_jax.errors import UserError
from cervix_jax.labels import CLASS_NAMES

INITIAL, ADDITIONAL, TEST = "initial", "additional", "test"
NO_FOLD = -1


class SplitError(UserError):
    """Photographs cannot be split; the message says why."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Labels and features of the photographs that can be read, a row each.

    Attributes:
      names: paths inside the raw folder.
      source: 'initial', 'additional' or 'test'.
      labels: corrected; 0, 1, 2, or -1 where unknown.
      folder_labels: by the folder that a photograph lies in; 0, 1, 2, or -1.
      histograms: `features.colour_histograms`.
      sharpness: `features.sharpness`, 0 to 1020.
      groups: near-duplicates and the photographs of a case have the same number.
      annotators: names of those who drew boxes around the cervix; '' if the file does not say.
      boxes: the box by each annotator: left, top, right, bottom as fractions of the upright photograph; NaN where
        there is none.
    """

    names: Sequence[str]
    source: Sequence[str]
    labels: Int[np.ndarray, "n"]
    folder_labels: Int[np.ndarray, "n"]
    histograms: Float32[np.ndarray, "n d"]
    sharpness: Float32[np.ndarray, "n"]
    groups: Int[np.ndarray, "n"]
    annotators: Sequence[str]
    boxes: Float32[np.ndarray, "n a 4"]

    def of(self, source: str) -> Bool[np.ndarray, "n"]:
        """Mask of the rows of a source."""
        return np.array([s == source for s in self.source], bool)


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Options of `assign_splits`, `config.selection`; data sets are built with the defaults.

    Attributes:
      folds: number of folds of the initial photographs.
      fold: the fold that validates, 0 to folds - 1.
      split: 'grouped': stratified folds that near-duplicates do not straddle; 'random': the report's, drawn with no
        regard to types or near-duplicates.
      labels: 'corrected' or 'folder'.
      additional: photographs to train on: 'cleaned', 'none' or 'all'; never near-duplicates of an initial or test one,
        or of the same case. Nor does 'test' hold those of an initial one.
      keep_fraction: fraction of the additional photographs to keep, those closest to the initial ones (not in report).
      sharpness: least sharpness of an additional photograph, as a fraction of that of the least sharp initial one
        (report: 1).
      fitted_on: 'training': Gaussian and threshold are fitted without the validation fold; 'initial': with it, as the
        report does.
      one_vs_rest: 'none', or a type to tell from the two others (report section 15), in the same folds.
      exclude: names of photographs that are not trained on.
    """

    folds: int = 5
    fold: int = 4
    split: str = "grouped"
    labels: str = "corrected"
    additional: str = "cleaned"
    keep_fraction: float = 0.5
    sharpness: float = 1.0
    fitted_on: str = "training"
    one_vs_rest: str = "none"
    exclude: Collection[str] = ()


@dataclasses.dataclass(frozen=True)
class SplitAssignment:
    """The split of each row of a manifest.

    Attributes:
      split: 'train', 'validation', 'test' or 'rejected'.
      reasons: why a row is rejected, '' otherwise.
      folds: fold of an initial photograph, -1 for others.
      log_density: natural logarithm of the density of a photograph's colours under the Gaussian of the initial ones
        (out-of-fold for those that it was fitted on); float64, NaN if there are no additional photographs to compare.
      labels: indices into `class_names`, -1 where unknown.
      class_names: the three types, or 'rest' and the type to tell from it.
      least_sharp: additional photographs below this sharpness are rejected as blurred.
    """

    split: tuple[str, ...]
    reasons: tuple[str, ...]
    folds: Int[np.ndarray, "n"]
    log_density: Float[np.ndarray, "n"]
    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    least_sharp: float


def check_groups(manifest: Manifest, folds: int) -> None:
    """Raises SplitError if the initial photographs are fewer groups than there are folds to hold out."""
    number = len(np.unique(manifest.groups[manifest.of(INITIAL)]))
    if number < folds:
        raise SplitError(
            f"the initial photographs are {number} groups of near-duplicates and cases, and {folds} are needed, one "
            "for each fold; does each woman have a case of her own?"
        )


def assign_splits(manifest: Manifest, config: SplitConfig) -> SplitAssignment:
    """Splits the photographs and cleans the additional ones."""
    initial, additional = manifest.of(INITIAL), manifest.of(ADDITIONAL)
    folds = np.full(len(manifest.names), NO_FOLD)
    names = [name for name, is_initial in zip(manifest.names, initial, strict=True) if is_initial]
    if config.split == "random":
        folds[initial] = random_folds(names, config.folds)
    else:
        folds[initial] = stratified_folds(names, manifest.labels[initial], config.folds, manifest.groups[initial])
    validation = folds == config.fold
    fitted = initial if config.fitted_on == "initial" else initial & ~validation
    log_density = np.full(len(manifest.names), np.nan)
    if additional.any() and fitted.any():
        log_density = _log_density(manifest, fitted)
    least_sharp = config.sharpness * float(manifest.sharpness[fitted].min(initial=np.inf))

    reasons = np.full(len(manifest.names), "", object)
    if config.additional == "none":
        reasons[additional] = "additional"
    if config.additional == "cleaned":
        reasons[additional & (manifest.sharpness < least_sharp)] = "blurred"
        distant = np.zeros(len(manifest.names), bool)
        distant[additional] = ~closest(log_density[additional], config.keep_fraction)
        reasons[distant] = "unlike the initial photographs"
    duplicates = additional & np.isin(manifest.groups, manifest.groups[initial | manifest.of(TEST)])
    duplicates |= manifest.of(TEST) & np.isin(manifest.groups, manifest.groups[initial])
    reasons[duplicates] = "near_duplicate"  # or of the same case
    excluded = np.isin(manifest.names, list(config.exclude)) & (reasons == "")
    reasons[excluded & ~validation & ~manifest.of(TEST)] = "excluded"

    split = np.full(len(manifest.names), "train", object)
    split[manifest.of(TEST)] = "test"
    split[validation] = "validation"
    split[reasons != ""] = "rejected"
    labels = manifest.labels if config.labels == "corrected" else manifest.folder_labels
    class_names: tuple[str, ...] = CLASS_NAMES
    if config.one_vs_rest != "none":
        class_names = ("rest", config.one_vs_rest)
        labels = np.where(labels < 0, labels, labels == CLASS_NAMES.index(config.one_vs_rest))
    return SplitAssignment(tuple(split), tuple(reasons), folds, log_density, labels, class_names, least_sharp)


def stratified_folds(
    names: Sequence[str], labels: Int[np.ndarray, "n"], num_folds: int, groups: Int[np.ndarray, "n"] | None = None
) -> Int[np.ndarray, "n"]:
    """A fold (0 to num_folds - 1) for each name; groups stay together, classes are spread evenly.

    Larger groups are placed first, each where its classes are rarest. Among equals the order is that of a hash of the
    name, so folds do not follow the order in which pictures were taken and are the same on every machine. Without
    groups, class counts and sizes of the folds differ by at most one.
    """
    members: dict[int, list[int]] = {}
    for i, group in enumerate(range(len(names)) if groups is None else groups):
        members.setdefault(int(group), []).append(i)

    def order(group: list[int]) -> tuple[int, int, bytes]:
        digests = [_digest(names[i]) for i in group]
        return -len(group), min(int(labels[i]) for i in group), min(digests)

    folds = np.full(len(names), NO_FOLD)
    counts = np.zeros((num_folds, int(labels.max(initial=0)) + 1), int)
    for group in sorted(members.values(), key=order):
        classes = np.bincount(labels[group], minlength=counts.shape[1])
        fold = min(range(num_folds), key=lambda f: (int(counts[f] @ classes), int(counts[f].sum()), f))
        folds[group] = fold
        counts[fold] += classes
    return folds


def random_folds(names: Sequence[str], num_folds: int) -> Int[np.ndarray, "n"]:
    """Folds by a hash of the name alone, of sizes that differ by at most one."""
    order = sorted(range(len(names)), key=lambda i: _digest(f"random {names[i]}"))
    folds = np.empty(len(names), int)
    folds[order] = np.arange(len(names)) % num_folds
    return folds


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def _log_density(manifest: Manifest, fitted: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Log density of each row: out-of-fold (five folds) where `fitted`, else under the Gaussian of all fitted rows."""
    rows = np.flatnonzero(fitted).tolist()
    folds = stratified_folds([manifest.names[i] for i in rows], manifest.labels[rows], 5, manifest.groups[rows])
    density = np.empty(len(fitted))
    density[~fitted] = Gaussian.fit(manifest.histograms[rows]).log_density(manifest.histograms[~fitted])
    density[rows] = cross_fitted_log_density(manifest.histograms[rows], folds)
    return density
