"""Trained runs, one or many, as a function from photographs to probabilities.

All that prediction needs is in the work directories: the models' options and variables, class names, preprocessing, how
photographs are cropped and resized, and what a usable photograph looks like. So a photograph is seen exactly as the
runs saw their own: at the size that a data set stores, then as each run crops and resizes.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from cervix_jax import config as options
from cervix_jax.datasets.quality import ImageFeatures, QualityReference
from cervix_jax.errors import UserError
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import read_bytes
from cervix_jax.images.geometry import CropResize
from cervix_jax.images.near_duplicates import signature
from cervix_jax.inference import ensemble
from cervix_jax.inference.calibration import apply_temperature
from cervix_jax.inference.tta import transforms
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.progress import log
from cervix_jax.runs import QUALITY_REFERENCE, RunError, read_record
from cervix_jax.training.checkpoints import LOSSES, CheckpointError, Checkpoints
from cervix_jax.training.forward import Forward, make_forward, predict_logits
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import make_mesh, replicated
from cervix_jax.training.metrics import softmax
from cervix_jax.training.state import Variables

ITEMS = {"raw": "variables", "ema": "averaged"}  # names of `--weights` -> items of a checkpoint
SELECTION = ("folds", "fold", "split", "labels")  # what has to agree for runs to have held out the same photographs


class EnsembleError(UserError):
    """Runs cannot be brought together; the message says why."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One photograph, read.

    Attributes:
      images: uint8 RGB [h w 3], one for each of the predictor's views.
      jpeg: as a data set would store it.
    """

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    jpeg: bytes

    @cached_property
    def scores(self) -> ImageFeatures:
        """Its colours and sharpness."""
        return ImageFeatures.of(read_photograph(self.jpeg))


@dataclasses.dataclass(frozen=True)
class Member:
    """The best checkpoint of one run.

    Attributes:
      workdir: of the run.
      config: its options.
      record: what the checkpoint says of itself: class names, preprocessing, data.
      weights: 'raw', or 'ema' for the moving average.
      validation_loss: of that checkpoint and those weights, in nats.
      model, variables, forward: the network.
      quality_reference: what the photographs look like that it was trained on; None if the run recorded none.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    record: dict[str, Any]
    weights: str
    validation_loss: float
    model: Classifier
    variables: Variables
    forward: Forward
    quality_reference: QualityReference | None

    @classmethod
    def restore(cls, workdir: Path, mesh: Mesh, weights: str | None = None) -> "Member":
        """Restores the checkpoint of least validation loss; see `Predictor.restore`."""
        read_record(workdir)
        with Checkpoints.open(workdir) as checkpoints:
            if weights is None:
                weights = "ema" if checkpoints.has_average else "raw"
            item = ITEMS[weights]
            try:
                step = checkpoints.best(item)
            except CheckpointError as error:
                raise CheckpointError(f"{workdir}: {error}") from error
            record = checkpoints.record(step)
            config = options.unflatten(options.flatten(record["config"]))
            model = make_classifier(config.model.to_dict(), len(record["class_names"]))
            template = jax.eval_shape(partial(init_variables, model, tuple(config.dataset.image_size), seed=0))
            variables = checkpoints.restore_variables(step, template, replicated(mesh), item)
            loss = checkpoints.metrics(step)[LOSSES[item]]
        quality_reference = QualityReference.load(workdir / QUALITY_REFERENCE)
        return cls(workdir, config, record, weights, loss, model, variables, make_forward(model), quality_reference)

    @property
    def view(self) -> CropResize:
        """How the run sees photographs."""
        dataset = self.config.dataset
        return CropResize(tuple(dataset.image_size), dataset.crop, dataset.resize)

    @property
    def digest(self) -> str:
        """Tells this checkpoint from any other; the same wherever it lies."""
        what = {
            name: value
            for name, value in options.flatten(self.config).items()
            if name not in options.CHANGEABLE_ON_RESUME
        }
        what |= {name: self.record[name] for name in ("data_fingerprint", "epoch")}
        what |= {"weights": self.weights, "validation_loss": self.validation_loss}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Predictor:
    """One run or an ensemble.

    Attributes:
      members: the runs.
      class_names: of the columns of the probabilities.
      rule: how members are averaged: 'report', 'mean' or 'geometric'.
      augmentations: names of `test_time.NAMES` that are averaged over.
      temperature: see `calibration`; 1 leaves probabilities as they are.
    """

    members: tuple[Member, ...]
    class_names: tuple[str, ...]
    rule: str
    augmentations: tuple[str, ...]
    temperature: float
    _mesh: Mesh

    @classmethod
    def restore(
        cls,
        workdirs: Sequence[Path],
        *,
        rule: str = "report",
        augmentations: Sequence[str] = (),
        weights: str | None = None,
    ) -> "Predictor":
        """Restores runs onto this process's devices.

        Args:
          workdirs: at least one.
          rule: how runs are averaged.
          augmentations: names of `test_time.NAMES`.
          weights: 'raw' or 'ema'; None for the moving average where a run kept one.

        Raises:
          RunError: a folder holds no run.
          CheckpointError: no epoch has been finished, or there is no moving average.
          EnsembleError: the runs do not belong together.
          UnknownAugmentationError: there is no such test-time augmentation.
        """
        transforms(augmentations)
        mesh = make_mesh()
        members = tuple(Member.restore(workdir, mesh, weights) for workdir in workdirs)
        class_names = _common_class_names(members)
        predictor = cls(members, class_names, rule, tuple(augmentations), 1.0, mesh)
        for part in predictor._averaged():
            if rule == "report" and len(part) > 1 and predictor._report_weights(part) is None:
                names = ", ".join(str(members[i].workdir) for i in part)
                log(f"no validation loss is below {ensemble.REPORT_BASE}: {names} are averaged with equal weights")
        return predictor

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

    def check_data(self, fingerprint: str) -> None:
        """Raises RunError unless prepared data of this fingerprint is what the runs were trained on."""
        if fingerprint != self.members[0].record["data_fingerprint"]:
            raise RunError(
                f"{self.members[0].workdir} was trained on other photographs than the prepared data set holds; "
                "name its --data_dir, or measure on a labelled folder with --images"
            )

    @property
    def quality_reference(self) -> QualityReference | None:
        """Of the first run: what a usable photograph looks like."""
        return self.members[0].quality_reference

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
                    "the command that trained it, given again, writes it"
                )
            view = self.views.index(member.view)
            known, groups = member.quality_reference.has_seen(
                np.stack([signature(p.images[view]) for p in photographs])
            )
            seen |= known
        return seen, groups

    @property
    def class_shares(self) -> tuple[float, ...]:
        """Of the first run's training images; a prediction that knows nothing of the photograph."""
        if self._is_one_vs_rest:
            own = [self.members[self._of_type(name)[0]].record["class_shares"][1] for name in self.class_names]
            return tuple(np.asarray(own) / sum(own))
        return tuple(self.members[0].record["class_shares"])

    @property
    def views(self) -> tuple[CropResize, ...]:
        """How members see photographs, each way once."""
        return tuple(dict.fromkeys(member.view for member in self.members))

    @property
    def weights(self) -> Float[np.ndarray, "m"]:
        """Of each member, in the mean over those that tell the same types; in each such mean they sum to one."""
        found = np.zeros(len(self.members))
        for part in self._averaged():
            weights = self._report_weights(part) if self.rule == "report" else None
            found[part] = 1 / len(part) if weights is None else weights
        return found

    @property
    def own_types(self) -> tuple[int, ...]:
        """Of one-vs-rest runs as one, the type that each tells from the rest; else none."""
        if not self._is_one_vs_rest:
            return ()
        return tuple(self.class_names.index(member.record["class_names"][1]) for member in self.members)

    @property
    def name(self) -> str:
        """For titles."""
        return " + ".join(member.workdir.name for member in self.members)

    @property
    def identity(self) -> str:
        """Tells predictors apart whose uncalibrated probabilities may differ; the same wherever the runs lie."""
        members = sorted(member.digest for member in self.members)
        what = [members, len(self.members) > 1 and self.rule, sorted(self.augmentations)]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]

    @property
    def calibration_path(self) -> Path:
        """Where the calibration of this very predictor is kept: with one of its runs, whatever their order."""
        return min(self.members, key=lambda member: member.digest).workdir / f"calibration-{self.identity}.json"

    def with_temperature(self, temperature: float) -> "Predictor":
        """The same predictor, calibrated."""
        return dataclasses.replace(self, temperature=temperature)

    def read(self, source: str | os.PathLike[str] | bytes) -> Photograph:
        """One photograph as the runs see it.

        Args:
          source: a path, or the bytes of a file.

        Raises:
          UnreadableError: it is none.
        """
        stored = to_stored(source if isinstance(source, bytes) else read_bytes(source)).jpeg
        images = tuple(view(read_photograph(stored, min_size=view.size)) for view in self.views)
        return Photograph(images, stored)

    def probabilities(self, photographs: Sequence[Photograph], batch_size: int = 32) -> Float[np.ndarray, "n k"]:
        """Probabilities of the classes in float64, rows summing to one.

        Args:
          photographs: from `read`; of several processes each looks at its own alone.
          batch_size: a step; results do not depend on it.
        """
        if not photographs:
            return np.zeros((0, len(self.class_names)))
        rows = [self._member_probabilities(member, photographs, batch_size) for member in self.members]
        return apply_temperature(self._combine(rows), self.temperature)

    def _member_probabilities(
        self, member: Member, photographs: Sequence[Photograph], batch_size: int
    ) -> Float[np.ndarray, "n _"]:
        """Mean over the views of test-time augmentation."""

        def augmented(transform: Any) -> Forward:
            def forward(variables: Variables, batch: Array) -> Array:
                return member.forward(variables, transform(batch.astype(np.float32)))

            return forward

        forwards = [augmented(t) for t in transforms(self.augmentations)] if self.augmentations else [member.forward]
        logits = [
            predict_logits(forward, member.variables, self._batches(member.view, photographs, batch_size), self._mesh)
            for forward in forwards
        ]
        return np.mean([softmax(each) for each in logits], axis=0)

    def _batches(
        self, view: CropResize, photographs: Sequence[Photograph], batch_size: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """This process's rows of each batch, in order; the last is filled up with zeros."""
        place = self.views.index(view)
        rows = max(1, batch_size // jax.process_count())
        for start in range(0, len(photographs), rows * jax.process_count()):
            first = start + jax.process_index() * rows
            images = np.zeros((rows, *view.size, 3), np.uint8)
            part = photographs[first : first + rows]
            for row, photograph in enumerate(part):
                images[row] = photograph.images[place]
            yield {"image": images, "mask": np.arange(rows) < len(part)}

    def _combine(self, rows: Sequence[Float[np.ndarray, "n _"]]) -> Float[np.ndarray, "n k"]:
        """One distribution from those of the members, in order."""
        means = [self._mean(part, rows) for part in self._averaged()]
        return ensemble.normalize_one_vs_rest(np.stack(means)[:, :, 1].T) if self._is_one_vs_rest else means[0]

    def _averaged(self) -> list[list[int]]:
        """Places of the members that are averaged: all, or those of each type."""
        if self._is_one_vs_rest:
            return [self._of_type(name) for name in self.class_names]
        return [list(range(len(self.members)))]

    def _report_weights(self, members: Sequence[int]) -> Float[np.ndarray, "_"] | None:
        return ensemble.report_weights([self.members[i].validation_loss for i in members])

    def _mean(self, members: Sequence[int], rows: Sequence[Float[np.ndarray, "n _"]]) -> Float[np.ndarray, "n _"]:
        """Of some members, by their places."""
        stacked, weights = np.stack([rows[i] for i in members]), self.weights[list(members)]
        return ensemble.mean(stacked, weights, geometric=self.rule == "geometric")

    @property
    def _is_one_vs_rest(self) -> bool:
        """Whether members each tell one type from the rest, and together all three."""
        return self.class_names != tuple(self.members[0].record["class_names"])

    def _of_type(self, name: str) -> list[int]:
        """Places of the members that tell this type from the rest."""
        return [i for i, member in enumerate(self.members) if member.record["class_names"][1] == name]


def _common_class_names(members: Sequence[Member]) -> tuple[str, ...]:
    """Class names of the ensemble.

    Raises:
      EnsembleError: runs of different types, data or folds; or one-vs-rest runs that leave a type out.
    """
    first = members[0]
    for member in members[1:]:
        if member.record["data_fingerprint"] != first.record["data_fingerprint"]:
            raise EnsembleError(f"{member.workdir} was trained on other photographs than {first.workdir}")
        for name in SELECTION:
            if member.config.selection[name] != first.config.selection[name]:
                raise EnsembleError(
                    f"config.selection.{name} is {first.config.selection[name]!r} in {first.workdir} and "
                    f"{member.config.selection[name]!r} in {member.workdir}: what one holds out the other has seen"
                )
    names = [tuple(member.record["class_names"]) for member in members]
    if len(set(names)) == 1:
        return names[0]
    if any(len(each) != 2 for each in names):
        raise EnsembleError("runs of three types and runs of one type against the rest cannot be one ensemble")
    if missing := set(CLASS_NAMES) - {each[1] for each in names}:
        raise EnsembleError(f"one run for each type is needed; there is none for {', '.join(sorted(missing))}")
    return CLASS_NAMES
