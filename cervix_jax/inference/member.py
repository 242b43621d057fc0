"""One trained run, restored from its work directory.

All that prediction needs is in the work directory: the model's options and variables, class names, preprocessing, how
photographs are cropped and resized, and what a usable photograph looks like.
"""

import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from cervix_jax import config as options
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.images.geometry import CropResize
from cervix_jax.inference.photograph import NetworkInput
from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.progress import log
from cervix_jax.runs import LOCALISER, QUALITY_REFERENCE, RunError, read_metrics, read_record
from cervix_jax.training.checkpoints import LOSSES, CheckpointError, Checkpoints, read_checkpoints
from cervix_jax.training.forward import ForwardWithFeatures, make_forward_with_features
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.mesh import replicated
from cervix_jax.training.state import Variables

ITEMS = {"raw": "variables", "ema": "averaged"}  # names of `--weights` -> items of a checkpoint


@dataclasses.dataclass(frozen=True)
class Member:
    """The best checkpoint of one run.

    Attributes:
      workdir: the work directory of the run.
      config: the options that it was trained with.
      record: what the checkpoint records: class names, preprocessing, fingerprint of the data, epoch.
      weights: 'raw', or 'ema' for the moving average.
      validation_loss: of that checkpoint and those weights, in nats.
      model: the network.
      variables: its parameters and statistics, on the devices.
      forward: jitted (variables, images) -> logits, and what the network has before its last layer.
      quality_reference: what the photographs that it was trained on look like; None if the run recorded none.
      localiser: finds the box that photographs are cropped to; None if they are not.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    record: dict[str, Any]
    weights: str
    validation_loss: float
    model: Classifier
    variables: Variables
    forward: ForwardWithFeatures
    quality_reference: QualityReference | None
    localiser: Localiser | None = None

    @classmethod
    def restore(cls, workdir: Path, mesh: Mesh, weights: str | None = None) -> "Member":
        """Restores the checkpoint of least validation loss onto the devices of a mesh.

        Args:
          workdir: the work directory of a run.
          mesh: devices that each hold a copy of the variables.
          weights: 'raw' or 'ema'; None for the moving average where the run kept one.

        Raises:
          RunError: there is no run, or it is a localiser.
          CheckpointError: no epoch has been finished, or there is no moving average.
        """
        read_record(workdir)

        def read(checkpoints: Checkpoints) -> "Member":
            return cls._read(workdir, checkpoints, mesh, weights)

        return read_checkpoints(workdir, read)

    @classmethod
    def _read(cls, workdir: Path, checkpoints: Checkpoints, mesh: Mesh, weights: str | None) -> "Member":
        if weights is None:
            weights = "ema" if checkpoints.has_average else "raw"
        item = ITEMS[weights]
        try:
            step = checkpoints.best(item)
        except CheckpointError as error:
            raise CheckpointError(f"{workdir}: {error}") from error
        record = checkpoints.record(step)
        config = options.unflatten(options.flatten(record["config"]))
        if config.task == "localise":
            raise RunError(f"{workdir} is a localiser, which tells no types; evaluate, predict, export take it alone")
        model = make_classifier(config.model.to_dict(), len(record["class_names"]))
        template = jax.eval_shape(partial(init_variables, model, tuple(config.dataset.image_size), seed=0))
        variables = checkpoints.restore_variables(step, template, replicated(mesh), item)
        loss = (checkpoints.metrics(step) or {})[LOSSES[item]]
        _say_if_better_is_missing(workdir, checkpoints, item, loss)
        quality_reference = QualityReference.load(workdir / QUALITY_REFERENCE)
        localiser = Localiser.load(workdir / LOCALISER)
        if localiser is None and isinstance(config.dataset.crop, str):
            raise RunError(
                f"{workdir} was trained on photographs cropped to {config.dataset.crop!r} and has no localiser, so it "
                "cannot see others; train with --config.dataset.crop=WORKDIR of a localiser"
            )
        forward = make_forward_with_features(model)
        return cls(workdir, config, record, weights, loss, model, variables, forward, quality_reference, localiser)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the run tells apart."""
        return tuple(self.record["class_names"])

    @property
    def fold(self) -> int:
        """The fold that the run holds out."""
        return int(self.config.selection.fold)

    @property
    def transform(self) -> CropResize:
        """Crops and resizes photographs, the same as in training."""
        return CropResize.from_config(self.config.dataset)

    @property
    def network_input(self) -> NetworkInput:
        """Photograph -> network input, the same as in training."""
        return NetworkInput(self.transform, self.localiser)

    @property
    def digest(self) -> str:
        """A hash that tells this checkpoint from any other; the same wherever it lies."""
        identity = {
            name: value
            for name, value in options.flatten(self.record["config"]).items()
            if name not in options.CHANGEABLE_ON_RESUME
        }
        identity |= {name: self.record[name] for name in ("data_fingerprint", "epoch")}
        identity |= {"weights": self.weights, "validation_loss": self.validation_loss}
        if self.localiser is not None:
            identity["localiser"] = self.localiser.digest
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _say_if_better_is_missing(workdir: Path, checkpoints: Checkpoints, item: str, loss: float) -> None:
    """A best checkpoint that somebody removed is not replaced by another without a word."""
    name = f"{'ema_' if item == 'averaged' else ''}validation_loss"
    newest = max(checkpoints.steps)  # that of a later epoch may be being written
    better = [row for row in read_metrics(workdir) if row.get("step", newest) < newest and row.get(name, loss) < loss]
    if better:
        best = min(better, key=lambda row: row[name])
        log(
            f"{workdir}: the checkpoint of epoch {best['epoch']}, of validation loss {best[name]:.4f}, is missing; the "
            f"best that is there has {loss:.4f}"
        )
