"""Trained runs, one or many, as a function from photographs to probabilities."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8
from scipy.special import softmax

from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import UserError
from cervix_jax.images.near_duplicates import signature
from cervix_jax.inference import ensemble
from cervix_jax.inference.calibration import Calibration, CalibrationError
from cervix_jax.inference.ensemble import Combination, EnsembleError
from cervix_jax.inference.member import Member
from cervix_jax.inference.outliers import EMBEDDINGS, EmbeddingReference
from cervix_jax.inference.photograph import NetworkInput, Photograph
from cervix_jax.inference.site_calibration import SITE_PREFIX, SiteCalibration
from cervix_jax.inference.tta import View, make_views
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.progress import log
from cervix_jax.runs import QUALITY_REFERENCE, RunError, member_workdirs
from cervix_jax.training.forward import ForwardWithFeatures, compute_outputs, image_batches
from cervix_jax.training.mesh import make_mesh
from cervix_jax.training.state import Variables

SELECTION = ("folds", "split", "labels")  # what has to agree for runs to have the same folds


class PredictionError(UserError):
    """A predictor gives no distribution."""


class Distributions(NamedTuple):
    """What the runs of a predictor say of n photographs.

    Attributes:
      combined: probabilities of k classes in float64, rows summing to one.
      by_fold: of a cross-validation also those by the runs of each of its f folds; with the calibration of a site those
        by the scalings of its folds instead, see `Calibration.crossed`; None of one fold.
      embeddings: what each run's network has before its last layer, of photographs as they are (without `tta`); None of
        no photographs.
    """

    combined: Float[np.ndarray, "n k"]
    by_fold: Float[np.ndarray, "f n k"] | None
    embeddings: list[Float[np.ndarray, "n _"]] | None


@dataclasses.dataclass(frozen=True)
class Predictor:
    """One run, an ensemble of runs that hold out the same photographs, or a cross-validation: runs of every fold.

    Attributes:
      members: the runs.
      rule: how they are combined, see `ensemble.Combination`.
      augmentations: names of `tta.AUGMENTATIONS` that are averaged over.
      mesh: the devices that compute.
      calibration: applied to the probabilities; None leaves them as they are.
    """

    members: tuple[Member, ...]
    rule: str
    augmentations: tuple[str, ...]
    mesh: Mesh
    calibration: Calibration | None = None

    @classmethod
    def restore(
        cls,
        workdirs: Sequence[Path],
        *,
        rule: str | None = None,
        augmentations: Sequence[str] = (),
        weights: str | None = None,
        calibrated: bool = False,
        site: str | None = None,
    ) -> "Predictor":
        """Restores runs onto this process's devices.

        Args:
          workdirs: at least one; that of a cross-validation stands for its runs.
          rule: how runs are combined: 'report', 'mean' or 'geometric'; None for 'report', but for 'mean' of a
            cross-validation, whose losses are of different photographs.
          augmentations: names of `tta.AUGMENTATIONS`.
          weights: 'raw' or 'ema'; None for the moving average where a run kept one.
          calibrated: use the calibration that was made for these runs and options, where there is one.
          site: use that of a site instead, see `site_calibration.py`.

        Raises:
          CalibrationError: there is no calibration of these runs and options for the site.
          RunError: a folder holds no run.
          CheckpointError: no epoch has been finished, or there is no moving average.
          EnsembleError: the runs do not belong together.
          UnknownAugmentationError: there is no such test-time augmentation.
        """
        make_views(augmentations)
        mesh = make_mesh()
        runs = [run for workdir in workdirs for run in member_workdirs(workdir)]
        if twice := [
            str(run) for i, run in enumerate(runs) if run.resolve() in {other.resolve() for other in runs[:i]}
        ]:
            raise EnsembleError(f"{twice[0]} is given twice; a run is no ensemble with itself")
        members = tuple(Member.restore(run, mesh, weights) for run in runs)
        _check_same_data(members)
        if rule is None:
            rule = "mean" if len({member.fold for member in members}) > 1 else "report"
        predictor = cls(members, rule, tuple(augmentations), mesh)
        for group in predictor.combination.groups:
            losses = [members[i].validation_loss for i in group]
            if rule == "report" and len(group) > 1 and ensemble.report_weights(losses) is None:
                names = ", ".join(str(members[i].workdir) for i in group)
                log(f"no validation loss is below {ensemble.REPORT_BASE}: {names} are averaged with equal weights")
        calibration: Calibration | None = None
        if calibrated and site is not None:
            calibration = SiteCalibration.load_site(predictor.site_path(site), predictor.identity)
        elif calibrated:
            calibration = Calibration.load(predictor.calibration_path, predictor.identity)
        return dataclasses.replace(predictor, calibration=calibration)

    @cached_property
    def combination(self) -> Combination:
        """How the members' distributions become one."""
        losses = [member.validation_loss for member in self.members]
        return Combination.of(self.rule, losses, [member.class_names for member in self.members])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the columns of the probabilities."""
        return self.combination.class_names

    @property
    def temperature(self) -> float:
        """Of the calibration; 1 without one."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def uncalibrated(self) -> "Predictor":
        """The same predictor without its calibration."""
        return dataclasses.replace(self, calibration=None)

    @cached_property
    def by_fold(self) -> dict[int, "Predictor"]:
        """The runs that hold out each fold, as a predictor; of a cross-validation all folds, else one."""
        folds = sorted({member.fold for member in self.members})
        return {
            fold: dataclasses.replace(self, members=tuple(member for member in self.members if member.fold == fold))
            for fold in folds
        }

    @property
    def is_cross_validated(self) -> bool:
        """Whether every fold is held out by one of the runs."""
        return len(self.by_fold) > 1

    @property
    def name(self) -> str:
        """Names of the work directories, for titles; that of the folder of a cross-validation."""
        folders = dict.fromkeys(m.workdir.parent if self.is_cross_validated else m.workdir for m in self.members)
        return " + ".join(folder.name for folder in folders)

    @property
    def config(self) -> ml_collections.ConfigDict:
        """Options of the first run."""
        return self.members[0].config

    @property
    def data_config(self) -> ml_collections.ConfigDict:
        """Options of the data whose types the class names are: of one-vs-rest runs as one, all three types."""
        config = self.config.copy_and_resolve_references()
        if self.class_names == CLASS_NAMES:
            config.selection.one_vs_rest = "none"
        return config

    @property
    def quality_reference(self) -> QualityReference | None:
        """What a usable photograph looks like, by the first run; None if it recorded none."""
        return self.members[0].quality_reference

    @property
    def network_inputs(self) -> tuple[NetworkInput, ...]:
        """Photograph -> network input, each that a member uses once."""
        return tuple(dict.fromkeys(member.network_input for member in self.members))

    @property
    def identity(self) -> str:
        """Tells predictors apart whose uncalibrated probabilities may differ; the same wherever the runs lie."""
        members = sorted(member.digest for member in self.members)
        identity = [members, len(self.members) > 1 and self.rule, sorted(self.augmentations)]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]

    @property
    def calibration_path(self) -> Path:
        """Where the calibration of this very predictor is kept: with one of its runs, whatever their order."""
        return min(self.members, key=lambda member: member.digest).workdir / f"calibration-{self.identity}.json"

    def site_path(self, site: str) -> Path:
        """Where the calibration for a site is kept: beside the other.

        Raises:
          CalibrationError: the site's name is not of letters, digits, '-' and '_'.
        """
        if not re.fullmatch(r"[\w-]+", site):
            raise CalibrationError(f"--site is {site!r}; a name has letters, digits, '-' and '_' only")
        return self.calibration_path.with_name(f"{SITE_PREFIX}{site}-{self.identity}.json")

    def read(self, source: str | os.PathLike[str] | bytes, *, with_features: bool = False) -> Photograph:
        """One photograph as the runs see it; see `Photograph.read`."""
        return Photograph.read(source, self.network_inputs, with_features=with_features)

    def read_stored(self, jpeg: bytes) -> Photograph:
        """One photograph of a data set as the runs see it; see `Photograph.from_stored`."""
        return Photograph.from_stored(jpeg, self.network_inputs)

    def probabilities(self, photographs: Sequence[Photograph], batch_size: int = 32) -> Float[np.ndarray, "n k"]:
        """Probabilities of the classes in float64, rows summing to one; see `distributions`."""
        return self.distributions(photographs, batch_size).combined

    def distributions(self, photographs: Sequence[Photograph], batch_size: int = 32) -> Distributions:
        """What the runs say of photographs.

        Args:
          photographs: from `read`; of several processes each accesses its own alone.
          batch_size: photographs a step; results do not depend on it.

        Raises:
          PredictionError: a probability is not finite.
        """
        if not photographs:
            return Distributions(np.zeros((0, len(self.class_names))), None, None)
        outputs = [self._member_outputs(member, photographs, batch_size) for member in self.members]
        members = [probabilities for probabilities, _ in outputs]
        combined, by_fold = self.combination.probabilities(members), None
        if self.is_cross_validated:
            parts = [
                runs.combination.probabilities(
                    [p for p, member in zip(members, self.members, strict=True) if member.fold == fold]
                )
                for fold, runs in self.by_fold.items()
            ]
            by_fold = np.stack(parts)
        if self.calibration:
            by_fold = self.calibration.crossed(combined, by_fold)
            combined = self.calibration.apply(combined)
        if not np.isfinite(combined).all():
            raise PredictionError(
                f"{self.name} gives probabilities that are not numbers, so nothing can be said: its weights are "
                "damaged, or too large for their precision"
            )
        return Distributions(combined, by_fold, [features for _, features in outputs])

    def embeddings(self, photographs: Sequence[Photograph], batch_size: int = 32) -> list[Float[np.ndarray, "n _"]]:
        """See `Distributions`; of n > 0 photographs."""
        plain = dataclasses.replace(self, augmentations=())
        return [plain._member_outputs(member, photographs, batch_size)[1] for member in self.members]

    def save_embeddings(
        self, photographs: Sequence[Photograph], groups: Int[np.ndarray, "n"], batch_size: int = 32
    ) -> None:
        """Keeps embeddings of photographs that no member has learned from with each, for `familiarity`.

        Args:
          photographs: n of known type, held out.
          groups: see `EmbeddingReference`.
          batch_size: as for `probabilities`.
        """
        for member, embeddings in zip(self.members, self.embeddings(photographs, batch_size), strict=True):
            EmbeddingReference(embeddings.astype(float), groups).save(member.workdir, member.digest)

    @cached_property
    def embedding_references(self) -> tuple[EmbeddingReference, ...] | None:
        """What `save_embeddings` has kept; None, and a line in the log, where a member has none."""
        found = [EmbeddingReference.load(member.workdir, member.digest) for member in self.members]
        known = tuple(reference for reference in found if reference is not None)
        if len(known) < len(found):
            log(
                f"{self.name}: unfamiliar photographs are not recognised; calibrate makes what that needs, {EMBEDDINGS}"
            )
            return None
        return known

    def familiarity(self, embeddings: Sequence[Float[np.ndarray, "n _"]] | None) -> Float[np.ndarray, "n"] | None:
        """Rank of photographs among those that the networks know, 0 to 1: the median over members; None if unknown.

        See `EmbeddingReference.ranks`.

        Args:
          embeddings: of n photographs, from `distributions` or `embeddings`.
        """
        if embeddings is None or self.embedding_references is None:
            return None
        pairs = zip(self.embedding_references, embeddings, strict=True)
        return np.median([known.ranks(features.astype(float)) for known, features in pairs], axis=0)

    def check_data(self, fingerprint: str) -> None:
        """Raises RunError unless prepared data of this fingerprint is what the runs were trained on."""
        if fingerprint != self.members[0].record["data_fingerprint"]:
            raise RunError(
                f"{self.members[0].workdir} was trained on other photographs than the prepared data set holds; "
                "name its --data_dir, or measure on a labelled folder with --images"
            )

    def has_seen(self, photographs: Sequence[Photograph]) -> tuple[Bool[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Whether any run was trained on, or validated with, near-duplicates of photographs; and groups of these.

        Raises:
          RunError: a run has not recorded its photographs.
        """
        seen = np.zeros(len(photographs), bool)
        for member in self.members:
            if member.quality_reference is None:
                raise RunError(
                    f"{member.workdir} does not know what it was trained on: {QUALITY_REFERENCE} is missing; "
                    "rerun the command that trained it, which writes it"
                )
            images = self._network_inputs(member, photographs)
            signatures = np.stack([signature(images[i]) for i in range(len(images))])
            seen_by_member, groups = member.quality_reference.has_seen(signatures)
            seen |= seen_by_member
        return seen, groups

    def _member_outputs(
        self, member: Member, photographs: Sequence[Photograph], batch_size: int
    ) -> tuple[Float[np.ndarray, "n _"], Float[np.ndarray, "n _"]]:
        """Probabilities, the mean over the views of test-time augmentation; and embeddings, of the first view."""
        images = self._network_inputs(member, photographs)
        views = make_views(self.augmentations)
        forwards = [_forward_of_view(member.forward, view) for view in views] if len(views) > 1 else [member.forward]
        outputs = [
            compute_outputs(forward, member.variables, image_batches(images, batch_size), self.mesh)
            for forward in forwards
        ]
        return np.mean([softmax(logits.astype(np.float64), axis=1) for logits, _ in outputs], axis=0), outputs[0][1]

    def _network_inputs(self, member: Member, photographs: Sequence[Photograph]) -> "_NetworkInputs":
        return _NetworkInputs(photographs, self.network_inputs.index(member.network_input))


class _NetworkInputs:
    """Images of photographs for one member, a `forward.ImageSequence`: each is accessed when it is needed."""

    def __init__(self, photographs: Sequence[Photograph], place: int):
        self._photographs, self._place = photographs, place

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._photographs[index].images[self._place]


def _forward_of_view(forward: ForwardWithFeatures, view: View) -> ForwardWithFeatures:
    def forward_of_view(variables: Variables, images: Array) -> tuple[Array, Array]:
        return forward(variables, view(images.astype(np.float32)))

    return forward_of_view


def _check_same_data(members: Sequence[Member]) -> None:
    """Raises EnsembleError if members were trained on other photographs, or hold out some folds but not all."""
    first = members[0]
    for member in members[1:]:
        if member.record["data_fingerprint"] != first.record["data_fingerprint"]:
            raise EnsembleError(f"{member.workdir} was trained on other photographs than {first.workdir}")
        if member.config.dataset.case_pattern != first.config.dataset.case_pattern:
            raise EnsembleError(
                f"config.dataset.case_pattern differs in {first.workdir} and {member.workdir}, so folds do"
            )
        for name in SELECTION:
            if member.config.selection[name] != first.config.selection[name]:
                raise EnsembleError(
                    f"config.selection.{name} is {first.config.selection[name]!r} in {first.workdir} and "
                    f"{member.config.selection[name]!r} in {member.workdir}: their folds are not the same"
                )
    runs = {member.fold: str(member.workdir) for member in members}
    missing = sorted(set(range(first.config.selection.folds)) - set(runs))
    if len(runs) > 1 and missing:
        raise EnsembleError(
            f"config.selection.fold differs, {', '.join(f'{fold} in {run}' for fold, run in runs.items())}: what one "
            f"run holds out the others have seen. A cross-validation has a run of every fold; missing: "
            f"{', '.join(map(str, missing))}. python -m cervix_jax.crossvalidate trains them"
        )
