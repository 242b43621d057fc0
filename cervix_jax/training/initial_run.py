"""Training that starts from the weights of a run: fine-tuning on photographs of one's own (`config.init.workdir`).

Strict: the network is the run's, and photographs are cropped, resized and normalised as it saw its own. Of a
cross-validation the run of the same fold is taken, counted modulo the number of its folds, so that the fine-tuned runs
are as different from each other as those. On the photographs that the run was trained on, folds must be its own, or it
would have seen those that validate.
"""

from functools import partial
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.sharding import Sharding

from cervix_jax import config as options
from cervix_jax.config import ConfigError
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.images.near_duplicates import signature
from cervix_jax.models.classifier import make_classifier
from cervix_jax.progress import log
from cervix_jax.runs import LOCALISER, QUALITY_REFERENCE, member_workdirs, read_record
from cervix_jax.training.checkpoints import Checkpoints, read_checkpoints
from cervix_jax.training.forward import ImageSequence
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.state import Variables

CROP = "init"  # value of `config.dataset.crop`: to the boxes that the run's localiser finds
NETWORK = (  # options that must be the run's
    "task",
    "dataset.image_size",
    "dataset.resize",
    "selection.one_vs_rest",
    "model.name",
    "model.batch_norm",
    "model.widths",
    "model.blocks",
    "model.backbone.name",
    "model.backbone.cut",
)
FOLDS = ("selection.folds", "selection.fold", "selection.split", "selection.labels", "dataset.case_pattern")


def initial_run(config: ml_collections.ConfigDict) -> Path:
    """The work directory of the run that `config.init.workdir` stands for.

    Raises:
      RunError: it holds no run.
    """
    runs = member_workdirs(Path(config.init.workdir))
    if len(runs) == 1:
        return runs[0]
    folds = [int(read_record(run)["config"]["selection"]["fold"]) for run in runs]
    return runs[folds.index(sorted(set(folds))[config.selection.fold % len(set(folds))])]


def initial_variables(config: ml_collections.ConfigDict, fingerprint: str, sharding: Sharding) -> Variables:
    """Variables of the run's best checkpoint, their moving average where it kept one.

    Args:
      config: of the training that starts.
      fingerprint: of the photographs that it trains on.
      sharding: where the variables go.

    Raises:
      ConfigError: the network or the crop is another, or the run has seen photographs that are to validate.
      RunError, CheckpointError: there is no run, or it has no checkpoint.
    """
    run = initial_run(config)
    record = read_record(run)
    learned = options.flatten(options.unflatten(options.flatten(record["config"])))
    wanted = options.flatten(config)
    names = NETWORK + (FOLDS if record.get("data_fingerprint") == fingerprint else ())
    problems = [
        f"config.{name} is {wanted[name]!r}, and {learned[name]!r} in {run}"
        for name in names
        if wanted[name] != learned[name]
    ]
    crop = CROP if (run / LOCALISER).exists() else learned["dataset.crop"]
    if wanted["dataset.crop"] != crop:
        problems.append(f"config.dataset.crop is {wanted['dataset.crop']!r}; {run} needs {crop!r}")
    if problems:
        raise ConfigError("training cannot start from config.init.workdir: " + "; ".join(problems))

    def read(checkpoints: Checkpoints) -> Variables:
        item = "averaged" if checkpoints.has_average else "variables"
        model = make_classifier(config.model.to_dict(), options.num_classes(config))
        template = jax.eval_shape(partial(init_variables, model, tuple(config.dataset.image_size), seed=0))
        step = checkpoints.best(item)
        log(f"starting from {run}, {item} of step {step}")
        return checkpoints.restore_variables(step, template, sharding, item)

    return read_checkpoints(run, read)


def initial_localiser(config: ml_collections.ConfigDict) -> Localiser:
    """The localiser through which the run sees photographs.

    Raises:
      ConfigError: it sees them whole.
    """
    run = initial_run(config)
    if (localiser := Localiser.load(run / LOCALISER)) is None:
        raise ConfigError(f"config.dataset.crop is {CROP!r}, and {run} has no localiser")
    return localiser


def warn_of_seen(config: ml_collections.ConfigDict, fingerprint: str, images: ImageSequence) -> None:
    """Logs how many photographs that are to validate are near-duplicates of what the run was trained on.

    Args:
      config: of the training that starts.
      fingerprint: of its photographs; of those that the run was trained on the folds are known to agree.
      images: that are to validate, as the network sees them.
    """
    run = initial_run(config)
    reference = QualityReference.load(run / QUALITY_REFERENCE)
    if reference is not None and read_record(run).get("data_fingerprint") != fingerprint:
        seen, _ = reference.has_seen(np.stack([signature(images[i]) for i in range(len(images))]))
        if seen.any():
            log(
                f"{seen.sum()} of {len(seen)} validation photographs are near-duplicates of those of {run}: it flatters"
            )
