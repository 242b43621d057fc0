"""Trains what an experiment compares: each variant once a fold and seed, whichever experiments it belongs to.

A run lies in `WORKDIR/runs/SYSTEM-foldK-seedN-DIGEST`, an ordinary work directory. The digest is over its options, so
that a run with other options gets another folder and is never mistaken for it. Finished runs are skipped, interrupted
ones resume, and one that fails leaves its reason and does not stop the others. Beside the run's own files lies
`validation.csv`, the predictions of its best epoch.
"""

import dataclasses
import hashlib
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import ml_collections
import numpy as np
from jaxtyping import Float

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.datasets.dataset import PreparedDataset
from cervix_jax.datasets.pipeline import Examples
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.experiments import baselines
from cervix_jax.experiments.time_estimates import RemainingTime
from cervix_jax.experiments.variants import QUICK, VARIANTS, Overrides, Variant
from cervix_jax.inference.labelled import split_photographs
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.inference.predictor import Predictor
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.weights.pretrained import IMAGENET
from cervix_jax.progress import log
from cervix_jax.runs import RunError
from cervix_jax.training import epoch_metrics, loop
from cervix_jax.training.metrics import classification_metrics

VALIDATION = "validation.csv"  # in a run's folder, a `PredictionTable`
CROPPED = "+cervix"  # ends the name of a system on photographs cropped to the cervix

# By `Variant.kind`.
BASELINES: dict[str, Callable[[ml_collections.ConfigDict, Examples, Examples], baselines.Predictions]] = {
    "uniform": baselines.uniform,
    "shares": baselines.class_priors,
    "logistic_regression": baselines.logistic_regression,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of an experiment share.

    Attributes:
      config: options under the variants' overrides: `dataset.manual_dir`, `model.backbone.weights` (of ResNet-50),
        epochs, image size and whatever else is to differ from the defaults.
      quick: small networks on synthetic photographs, with random backbones where no weights are given.
      scale: epochs and image size; they take precedence over `quick`.
      inception_weights: as `model.backbone.weights`, for Inception-v3.
      allow_random_backbone: start from random weights where none are given.
      localiser: value of `dataset.crop` with which systems are trained on the cervix, besides on whole photographs.
    """

    config: ml_collections.ConfigDict
    quick: bool = False
    scale: Overrides = dataclasses.field(default_factory=dict)
    inception_weights: str | None = None
    allow_random_backbone: bool = False
    localiser: str | None = None

    def resolve(self, variant: Variant, seed: int, fold: int | None = None) -> ml_collections.ConfigDict:
        """The whole config of one run; of the fold of `config` unless one is given."""
        config = options.unflatten(options.flatten(self.config))
        config.seed += seed
        if fold is not None:
            config.selection.fold = fold
        quick, quick_variant = (QUICK, variant.quick_overrides) if self.quick else ({}, {})
        config.update_from_flattened_dict(quick | self.scale | variant.overrides | quick_variant)
        backbone = config.model.backbone
        if variant.backbone == "inception_v3":
            backbone.weights = self.inception_weights
        if variant.backbone == "none":
            backbone.weights = None
        # Of what is set for all variants, this one's head may not read all, such as the sizes of `QUICK`.
        config.update_from_flattened_dict(options.without_ignored(options.flatten(config)))
        lacks_weights = needs_weights(variant, config) and backbone.weights is None
        backbone.allow_random = lacks_weights and (self.allow_random_backbone or self.quick)
        return config


@dataclasses.dataclass(frozen=True)
class Run:
    """One variant with one seed, on the photographs outside one fold.

    Attributes:
      system: name of the variant, in `VARIANTS`; with `CROPPED` behind it on the cervix.
      seed: added to `config.seed`, the seed of weights, shuffling, augmentation and dropout.
      fold: that validates.
      folder: its work directory, relative to the work directory of the experiments.
      random_backbone: whether it starts from random weights where the variant calls for ImageNet's.
      reason: why it failed; None if it did not.
    """

    system: str
    seed: int
    fold: int
    folder: str
    random_backbone: bool = False
    reason: str | None = None

    @property
    def variant(self) -> Variant:
        """What is trained."""
        return VARIANTS[self.system.removesuffix(CROPPED)]


PlannedRun = tuple[Run, ml_collections.ConfigDict]


def plan(systems: Sequence[str], settings: Settings, seeds: int, folds: Sequence[int]) -> list[PlannedRun]:
    """Every run of the named variants, each with its config; system by system, so that one after another is whole."""
    planned = []
    for name in systems:
        variant = VARIANTS[name]
        for crop in (None, settings.localiser) if settings.localiser and variant.can_be_cropped else (None,):
            for seed, fold in itertools.product(range(seeds), folds):
                config = settings.resolve(variant, seed, fold)
                if crop:
                    config.dataset.crop = crop
                system = name + CROPPED if crop else name
                folder = f"runs/{system}-fold{fold}-seed{seed}-{_digest(variant, config)}"
                planned.append((Run(system, seed, fold, folder, config.model.backbone.allow_random), config))
    return planned


def run_all(
    planned: Sequence[PlannedRun], dataset: PreparedDataset, workdir: Path, report: Callable[[Run, list[Run]], None]
) -> list[Run]:
    """Does every unfinished run; returns all runs, those that failed with their reasons.

    Args:
      planned: see `plan`.
      dataset: of all runs.
      workdir: of the experiments.
      report: called with a run whenever one has ended, and all runs.

    Raises:
      Interrupted: by a signal; the same call resumes.
    """
    all_runs = [run for run, _ in planned]
    unfinished = [not is_finished(workdir, run, config, dataset.fingerprint) for run, config in planned]
    work = [run.variant.relative_step_time * run.variant.passes(config.epochs) for run, config in planned]
    remaining_time = RemainingTime(sum((work[i] for i, todo in enumerate(unfinished) if todo), start=0.0))
    for i, (run, config) in enumerate(planned):
        title = f"[{i + 1}/{len(planned)}] {run.system}, fold {run.fold}, seed {run.seed}"
        if not unfinished[i]:
            log(f"{title}: already finished")
        else:
            log(f"{title}{remaining_time}: {run.folder}")
            try:
                _execute(run.variant, config, workdir / run.folder, dataset)
            except (Interrupted, KeyboardInterrupt):
                raise
            except Exception as error:
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                if not isinstance(error, UserError):
                    traceback.print_exc(file=sys.stderr)
                all_runs[i] = dataclasses.replace(run, reason=reason)
                log(f"{title}: failed: {reason}")
            remaining_time.finish(work[i])
        report(all_runs[i], all_runs)
    return all_runs


def is_finished(workdir: Path, run: Run, config: ml_collections.ConfigDict, fingerprint: str) -> bool:
    """Whether a run has all its epochs and its predictions, on the photographs with this fingerprint."""
    folder = workdir / run.folder
    try:
        is_of_these = runs.read_record(folder)["data_fingerprint"] == fingerprint
    except RunError:  # none, or a damaged one
        return False
    rows, epochs = runs.read_metrics(folder), run.variant.passes(config.epochs)
    return is_of_these and (folder / VALIDATION).exists() and epoch_metrics.is_over(rows, epochs, config.patience)


def needs_weights(variant: Variant, config: ml_collections.ConfigDict) -> bool:
    """Whether a run has a backbone that is to start from ImageNet's weights."""
    return "none" not in (variant.backbone, config.model.backbone.name)


def _digest(variant: Variant, config: ml_collections.ConfigDict) -> str:
    """Over all options that change the result, weights by content; more epochs are the same run, but for `cosine`."""
    ignored = options.CHANGEABLE_ON_RESUME - ({"epochs"} if config.optimizer.schedule == "cosine" else set())
    computed = {name: x for name, x in options.flatten(config).items() if name not in ignored}
    if config.init.workdir is not None:
        computed["init.workdir"] = config.init.workdir
    if needs_weights(variant, config):
        computed["weights"] = _weights_digest(config.model.backbone.weights, config.model.backbone.name)
    return hashlib.sha256(json.dumps([variant.kind, computed], sort_keys=True).encode()).hexdigest()[:8]


@cache
def _weights_digest(weights: str | None, backbone: str) -> str | None:
    """SHA-256 of a weights file; its path if there is no such file."""
    if weights is None or not Path(weights).is_file():
        return BACKBONES[backbone].weights.sha256 if weights == IMAGENET else weights
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _execute(variant: Variant, config: ml_collections.ConfigDict, folder: Path, dataset: PreparedDataset) -> None:
    _check_weights(variant, config)
    if (folder / runs.RECORD).exists():
        runs.check_data(folder, dataset.fingerprint)
    (folder / VALIDATION).unlink(missing_ok=True)  # from fewer epochs
    dataset = dataset.with_splits(options.validate(config))
    if variant.kind == "network":
        loop.train(config, folder, dataset)
        table = _best_predictions(folder, dataset, config.eval_batch_size)
    else:
        examples, probabilities = dataset.examples("validation"), _fit_baseline(variant, config, folder, dataset)
        folds = np.full(len(examples), config.selection.fold)
        table = PredictionTable(
            examples.ids, examples.labels, examples.groups, folds, probabilities, tuple(examples.class_names)
        )
    table.write(folder / VALIDATION)


def _check_weights(variant: Variant, config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError, naming the flags of `reproduce`, if a backbone has no weights and may not be random."""
    backbone = config.model.backbone
    if needs_weights(variant, config) and backbone.weights is None and not backbone.allow_random:
        flag = "--inception_weights" if backbone.name == "inception_v3" else "--config.model.backbone.weights"
        raise options.ConfigError(
            f"no weights: {flag}=imagenet fetches {BACKBONES[backbone.name].weights.file_name} once, or give its path; "
            "--allow_random_backbone starts from random ones"
        )


def _best_predictions(folder: Path, dataset: PreparedDataset, batch_size: int) -> PredictionTable:
    """Those of the epoch of least validation loss; by the moving average where one was kept."""
    predictor = Predictor.restore([folder])
    cases = split_photographs(predictor, lambda config: dataset, "validation")
    table = PredictionTable.of(cases, cases.probabilities(predictor, batch_size), predictor.class_names)
    return dataclasses.replace(table, folds=np.full(len(table.ids), predictor.members[0].fold))


def _fit_baseline(
    variant: Variant, config: ml_collections.ConfigDict, folder: Path, dataset: PreparedDataset
) -> Float[np.ndarray, "n k"]:
    """Validation probabilities; the record and the metrics are written as those of a network after one epoch."""
    train, validation = dataset.examples("train"), dataset.examples("validation")
    runs.open_run(folder, config)
    runs.write_record(folder, class_names=list(train.class_names), data_fingerprint=dataset.fingerprint)
    predictions = BASELINES[variant.kind](config, train, validation)
    metrics: dict[str, int | float] = {"epoch": 1}
    for split, examples in (("train", train), ("validation", validation)):
        scores = classification_metrics(getattr(predictions, split), examples.labels, examples.class_names)
        metrics |= {f"{split}_{key}": scores[key] for key in ("loss", "accuracy")}
    runs.write_metrics(folder, [metrics])
    return predictions.validation
