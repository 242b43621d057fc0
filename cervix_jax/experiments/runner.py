"""Trains what an experiment compares: each system with each seed once, whichever experiments it belongs to.

A run lies in `WORKDIR/runs/SYSTEM-seedN-DIGEST`, an ordinary work directory; the digest is of its options, so that a
run of other options is another folder and is never taken for it. What is finished is not done again, what was
interrupted goes on, and what fails leaves its reason and does not stop the others. Beside the run's own files lies
`validation.csv`, the probabilities of its best epoch, so that tables and ensembles need nothing but the work directory.
"""

import csv
import dataclasses
import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import ml_collections
import numpy as np
from jaxtyping import Float

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.datasets import pipeline
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.experiments import baselines
from cervix_jax.experiments.variants import QUICK, VARIANTS, Overrides, Variant
from cervix_jax.inference.predictor import Member
from cervix_jax.models.weights.pretrained import IMAGENET
from cervix_jax.models.weights.published import PUBLISHED
from cervix_jax.progress import log
from cervix_jax.training import loop
from cervix_jax.training.forward import all_logits
from cervix_jax.training.mesh import make_mesh
from cervix_jax.training.metrics import classification_metrics, softmax

PREDICTIONS = "validation.csv"
FITTED: dict[str, Callable[..., baselines.Fitted]] = {
    "uniform": baselines.uniform,
    "shares": baselines.shares,
    "logistic_regression": baselines.logistic_regression,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of an experiment share.

    Attributes:
      config: options under the overrides of the systems: `dataset.manual_dir`, `model.backbone.weights` (of ResNet-50),
        epochs, size and whatever else is to differ from the defaults.
      quick: in small, on drawn photographs, with random backbones where no weights are given.
      scale: epochs and size, above those of `quick`.
      inception_weights: as `model.backbone.weights`, of Inception-v3.
      allow_random_backbone: start from random weights where none are given.
    """

    config: ml_collections.ConfigDict
    quick: bool = False
    scale: Overrides = dataclasses.field(default_factory=dict)
    inception_weights: str | None = None
    allow_random_backbone: bool = False

    def resolve(self, system: Variant, seed: int) -> ml_collections.ConfigDict:
        """The whole config of one run."""
        config = options.unflatten(options.flatten(self.config))
        config.seed += seed
        config.update_from_flattened_dict((QUICK if self.quick else {}) | self.scale)
        config.update_from_flattened_dict(dict(system.overrides))
        if self.quick:
            config.update_from_flattened_dict(dict(system.quick))
        backbone = config.model.backbone
        if system.backbone == "inception_v3":
            backbone.weights = self.inception_weights
        if system.backbone == "none":
            backbone.weights = None
        without = needs_weights(system, config) and backbone.weights is None
        backbone.allow_random = without and (self.allow_random_backbone or self.quick)
        return config


@dataclasses.dataclass(frozen=True)
class Run:
    """One system with one seed.

    Attributes:
      system: a name in `VARIANTS`.
      seed: added to `config.seed`, of weights, shuffling, augmentation and dropout.
      folder: its work directory, as seen from the work directory of the experiments.
      random_backbone: started from random weights where the system wants ImageNet's.
      reason: why it could not be done; None if it was, or not yet.
    """

    system: str
    seed: int
    folder: str
    random_backbone: bool = False
    reason: str | None = None


def needs_weights(system: Variant, config: ml_collections.ConfigDict) -> bool:
    """Whether a run has a backbone that is to start from ImageNet's weights."""
    return "none" not in (system.backbone, config.model.backbone.name)


def plan(systems: Sequence[str], settings: Settings, seeds: int) -> list[tuple[Run, ml_collections.ConfigDict]]:
    """Every run of some systems, and its config."""
    planned = []
    for name in systems:
        for seed in range(seeds):
            config = settings.resolve(VARIANTS[name], seed)
            folder = f"runs/{name}-seed{seed}-{_digest(VARIANTS[name], config)}"
            planned.append((Run(name, seed, folder, config.model.backbone.allow_random), config))
    return planned


def _digest(system: Variant, config: ml_collections.ConfigDict) -> str:
    """Of all that a run computes, weights by their contents; how many epochs, and where data are, is no part of it."""
    what = {name: value for name, value in options.flatten(config).items() if name not in options.CHANGEABLE_ON_RESUME}
    if needs_weights(system, config):
        what["weights"] = _contents(config.model.backbone.weights, config.model.backbone.name)
    return hashlib.sha256(json.dumps([system.kind, what], sort_keys=True).encode()).hexdigest()[:8]


@cache
def _contents(weights: str | None, backbone: str) -> str | None:
    """SHA-256 of a file of weights; its path where there is none."""
    if weights is None or not Path(weights).is_file():
        return PUBLISHED[backbone].sha256 if weights == IMAGENET else weights
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_all(
    planned: Sequence[tuple[Run, ml_collections.ConfigDict]], workdir: Path, report: Callable[[list[Run]], None]
) -> list[Run]:
    """Does every run that is not done; returns them with the reasons of those that failed.

    Args:
      planned: see `plan`.
      workdir: of the experiments.
      report: called with all runs whenever one has ended.

    Raises:
      Interrupted: by a signal; the same call goes on.
      ConfigError, ManualDirError, DatasetError: what every run needs is missing or does not fit.
    """
    found = [run for run, _ in planned]
    data = pipeline.load_dataset(options.validate(planned[0][1]))
    left = [
        not is_finished(workdir / run.folder, VARIANTS[run.system], config, data.fingerprint) for run, config in planned
    ]
    costs = [VARIANTS[run.system].cost for (run, _), to_do in zip(planned, left, strict=True) if to_do]
    clock = _Clock(sum(costs, start=0.0))
    for i, (run, config) in enumerate(planned):
        title = f"[{i + 1}/{len(planned)}] {run.system}, seed {run.seed}"
        if not left[i]:
            log(f"{title}: done before")
        else:
            log(f"{title}{clock.time_left()}: {run.folder}")
            try:
                _do(VARIANTS[run.system], config, workdir / run.folder, data)
            except (Interrupted, KeyboardInterrupt):
                raise
            except Exception as error:
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                if not isinstance(error, UserError):
                    traceback.print_exc(file=sys.stderr)
                found[i] = dataclasses.replace(run, reason=reason)
                log(f"{title}: failed: {reason}")
            clock.done(VARIANTS[run.system].cost)
        report(found)
    return found


class _Clock:
    """How long the runs that are left will take, by those that this process has done."""

    def __init__(self, cost: float):
        self._total, self._done, self._began = cost, 0.0, time.monotonic()

    def done(self, cost: float) -> None:
        """A run of this cost has ended."""
        self._done += cost

    def time_left(self) -> str:
        """For a title; nothing while nothing is known."""
        if not self._done:
            return ""
        seconds = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        return f", about {max(1, round(seconds / 60))} min left"


def is_finished(folder: Path, system: Variant, config: ml_collections.ConfigDict, fingerprint: str) -> bool:
    """Whether a run has all its epochs and predictions, of the photographs with this fingerprint."""
    wanted = config.epochs if system.kind == "network" else 1
    if not (folder / PREDICTIONS).exists() or len(runs.read_metrics(folder)) < wanted:
        return False
    return runs.read_record(folder)["data_fingerprint"] == fingerprint


def _do(system: Variant, config: ml_collections.ConfigDict, folder: Path, data: pipeline.PreparedDataset) -> None:
    _check_weights(system, config)
    if (folder / runs.RECORD).exists():
        runs.check_data(folder, data.fingerprint)
    (folder / PREDICTIONS).unlink(missing_ok=True)  # of fewer epochs
    data = data.with_splits(options.validate(config))
    validation = data.examples("validation")
    if system.kind == "network":
        loop.train(config, folder, data)
        probabilities = _best_predictions(folder, config, validation)
    else:
        runs.open_run(folder, config)
        train = data.examples("train")
        runs.write_record(folder, class_names=list(train.class_names), data_fingerprint=data.fingerprint)
        fitted = FITTED[system.kind](config, train, validation)
        probabilities = fitted.validation
        of_train = classification_metrics(fitted.train, train.labels, train.class_names)
        scores = classification_metrics(fitted.validation, validation.labels, validation.class_names)
        row = {f"train_{key}": of_train[key] for key in ("loss", "accuracy")}
        row |= {f"validation_{key}": scores[key] for key in ("loss", "accuracy")}
        runs.write_metrics(folder, [{"epoch": 1} | row])
    write_predictions(folder, validation, probabilities)


def _check_weights(system: Variant, config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError, by the flags of `reproduce`, if a backbone has neither weights nor leave to be random."""
    backbone = config.model.backbone
    if needs_weights(system, config) and backbone.weights is None and not backbone.allow_random:
        flag = "--inception_weights" if backbone.name == "inception_v3" else "--config.model.backbone.weights"
        raise options.ConfigError(
            f"no weights: {flag}=imagenet fetches {PUBLISHED[backbone.name].file_name} once, or give its path; "
            "--allow_random_backbone starts from random ones"
        )


def _best_predictions(
    folder: Path, config: ml_collections.ConfigDict, validation: pipeline.Examples
) -> Float[np.ndarray, "n k"]:
    """Of the epoch of least validation loss; of the moving average where one was kept."""
    mesh = make_mesh()
    member = Member.restore(folder, mesh)
    batches = pipeline.evaluation_batches(validation, config.eval_batch_size)
    return softmax(all_logits(member.forward, member.variables, batches, mesh))


def write_predictions(folder: Path, examples: pipeline.Examples, probabilities: Float[np.ndarray, "n k"]) -> None:
    """`validation.csv`: image name, place of its type in the class names, probabilities."""
    partial = folder / (PREDICTIONS + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_name", "label", *examples.class_names])
        for name, label, row in zip(examples.ids, examples.labels, probabilities, strict=True):
            writer.writerow([name, int(label), *map(repr, row.tolist())])
    partial.replace(folder / PREDICTIONS)
