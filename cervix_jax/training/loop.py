"""Trains a run from start to end, or resumes it from its latest checkpoint.

In order: check the work directory; load the data; set up model, optimizer and state; restore the latest checkpoint, if
there is one; then for every epoch: training steps, validation, a row of metrics, a checkpoint. An interruption saves a
checkpoint within the epoch; rerun the same command to resume, with the same metrics as without the interruption.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.datasets.dataset import BOXES, PreparedDataset, load_dataset
from cervix_jax.datasets.pipeline import DatasetError, Examples, training_batches
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.images.near_duplicates import signature
from cervix_jax.lock import exclusive
from cervix_jax.progress import Progress, log, log_once
from cervix_jax.training import epoch_metrics
from cervix_jax.training.checkpoints import Checkpoints
from cervix_jax.training.cropping import crop_boxes
from cervix_jax.training.forward import Forward, compute_outputs, image_batches, make_forward
from cervix_jax.training.initial_run import initial_variables, warn_of_seen
from cervix_jax.training.mesh import make_mesh, replicate, replicated, shard_batch
from cervix_jax.training.processes import StopConsensus, is_lead_host, lead_host_first, on_lead_host, sum_over_processes
from cervix_jax.training.recovery import (
    rebuild_record,
    recovered_rows,
    remove_damaged_reference,
    restore_newest,
    set_unreadable_aside,
)
from cervix_jax.training.setup import TrainSetup, make_setup
from cervix_jax.training.signals import stop_signals
from cervix_jax.training.state import MetricSums, TrainState, Variables, count_parameters
from cervix_jax.training.task import Task, make_task
from cervix_jax.training.tensorboard import TensorBoard

_CHECK_STEPS = 20  # between checks that the loss is finite, each of which waits for the device

OnStep = Callable[[int], None]


class NonFiniteError(UserError):
    """The loss or its gradient is not finite; the last checkpoint is from before."""


@dataclasses.dataclass(frozen=True)
class TrainContext:
    """What is fixed while a run trains, its data included.

    Attributes:
      setup: config, mesh, model, optimizer and step.
      task: of the run.
      forward: the jitted evaluation pass.
      data: the data set.
      examples: of its training split.
      validation: of its validation split.
      batches: of `examples`, endless.
      on_step: called after each step.
    """

    setup: TrainSetup
    task: Task
    forward: Forward
    data: PreparedDataset
    examples: Examples
    validation: Examples
    batches: grain.DatasetIterator
    on_step: OnStep


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    data: PreparedDataset | None = None,
    *,
    on_step: OnStep = lambda step: None,
) -> dict[str, Any]:
    """Trains until `config.epochs` epochs are done.

    Args:
      config: of the run.
      workdir: of the run; made if missing.
      data: `load_dataset(config)`, if the caller has it already.
      on_step: called after each step with its number, counted from 1 over all epochs.

    Returns:
      `best`: epoch and metrics of the best validation epoch; `best_ema`: likewise of the moving average, if one
      is kept; `images_per_second`: median over epochs, without compilation and validation; `epochs`; `parameters`: how
      many are `trained` and `frozen`.

    Raises:
      ConfigError, RunError, ManualDirError, DatasetError, WeightsError: an input is missing or does not fit.
      NonFiniteError: naming metric and step.
      Interrupted: on SIGINT or SIGTERM, after saving.
    """
    config = options.with_absolute_paths(options.validate(config))
    with contextlib.ExitStack() as stack:
        lock = exclusive(workdir / runs.LOCK, f"the work directory {workdir}")
        on_lead_host(lambda: stack.enter_context(lock))
        return _train(config, workdir, data, on_step)


def _train(
    config: ml_collections.ConfigDict, workdir: Path, data: PreparedDataset | None, on_step: OnStep
) -> dict[str, Any]:
    on_lead_host(lambda: rebuild_record(workdir))
    on_lead_host(lambda: runs.check_config(workdir, config))  # before minutes of preparing
    prepared = lead_host_first(lambda: load_dataset(config)) if data is None else data
    on_lead_host(lambda: runs.check_data(workdir, prepared.fingerprint))
    localiser, seen = None, prepared
    if isinstance(config.dataset.crop, str) and config.dataset.crop != BOXES:
        localiser, boxes = crop_boxes(config, prepared)
        seen = prepared.with_crops(boxes)
    context = _make_context(config, seen, on_step)
    digests = {
        "examples_digest": context.examples.ids_digest,
        "targets_digest": context.examples.targets_digest,
        "localiser_digest": None if localiser is None else localiser.digest,
    }
    on_lead_host(lambda: runs.check_digests(workdir, digests))
    variables = None
    if config.init.workdir is not None:
        sharding = replicated(context.setup.mesh)
        variables = initial_variables(config, prepared.fingerprint, sharding)
        on_lead_host(lambda: warn_of_seen(config, prepared.fingerprint, context.validation.images))
    state = context.setup.initial_state(lambda: _mean_image(context.examples), variables)
    record = {
        "class_names": list(context.examples.class_names),
        "class_shares": context.examples.class_priors(),
        "preprocessing": context.setup.model.preprocessing,
        "data_fingerprint": prepared.fingerprint,
        **digests,
    }

    def claim() -> None:
        """Nothing is missing: from now on the work directory is this run's."""
        runs.open_run(workdir, config)
        runs.write_record(workdir, **record)
        if localiser is not None:  # for prediction
            localiser.save(workdir / runs.LOCALISER)

    on_lead_host(claim)
    parameters = {"trained": count_parameters(state.params), "frozen": count_parameters(state.frozen)}
    log(f"{len(context.examples)} training and {len(context.validation)} validation images")
    log(
        f"{parameters['trained']:,} parameters trained, {parameters['frozen']:,} frozen; "
        f"{context.setup.mesh.size} device(s)"
        + (f" of {jax.process_count()} processes" if jax.process_count() > 1 else "")
    )
    averaged = config.optimizer.ema_decay > 0
    on_lead_host(lambda: set_unreadable_aside(workdir))
    on_lead_host(lambda: remove_damaged_reference(workdir))
    with Checkpoints.open(workdir, averaged=averaged) as checkpoints, stop_signals() as asked_to_stop:
        state, saved = restore_newest(workdir, checkpoints, state, replicated(context.setup.mesh))
        checkpoints.remove_replaced()
        if saved is not None:
            context.batches.set_state(saved["iterator"])
        record["config"] = config.to_dict()
        rows = _run_epochs(context, state, checkpoints, StopConsensus(asked_to_stop), workdir, record)
    speeds = [row["images_per_second"] for row in rows if row["images_per_second"] is not None]
    return {
        "best": epoch_metrics.best(rows),
        **({"best_ema": epoch_metrics.best(rows, "ema_")} if averaged else {}),
        "images_per_second": statistics.median(speeds) if speeds else None,
        "epochs": len(rows),
        "parameters": parameters,
    }


def _make_context(config: ml_collections.ConfigDict, data: PreparedDataset, on_step: OnStep) -> TrainContext:
    """Compiles nothing yet."""
    examples = data.examples("train", to_train=True)
    if missing := [
        name for name, share in zip(examples.class_names, examples.class_priors(), strict=True) if share == 0
    ]:
        raise DatasetError(f"there is no training photograph of {', '.join(missing)}, so nothing can be learnt of it")
    process = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    setup = make_setup(config, make_mesh(), len(examples.class_names), len(examples) // config.batch_size)
    return TrainContext(
        setup=setup,
        task=make_task(config),
        forward=make_forward(setup.model),
        data=data,
        examples=examples,
        validation=data.examples("validation"),
        batches=training_batches(examples, config, **process),
        on_step=on_step,
    )


def _mean_image(examples: Examples) -> Float[np.ndarray, "h w 3"]:
    total = sum_over_processes(examples.pixel_sums(jax.process_index(), jax.process_count()))
    return (total / len(examples)).astype(np.float32)


def _run_epochs(
    context: TrainContext,
    state: TrainState,
    checkpoints: Checkpoints,
    stop: StopConsensus,
    workdir: Path,
    record: dict[str, Any],
) -> list[dict[str, Any]]:
    """Trains the epochs that are left; returns the metrics of all."""
    epochs, steps_per_epoch = context.setup.config.epochs, context.setup.steps_per_epoch
    done = int(state.step)
    rows = recovered_rows(workdir, checkpoints, done, steps_per_epoch)
    patience, first = context.setup.config.patience, done // steps_per_epoch + 1
    if epoch_metrics.is_over(rows, epochs, patience) and done % steps_per_epoch == 0:
        log(f"nothing to do: {done // steps_per_epoch} epochs are done and {epochs} were asked for")
        _save_quality_reference(context, workdir)
        if is_lead_host() and runs.damaged_metrics(workdir):
            runs.write_metrics(workdir, rows)
        return rows
    with closing(TensorBoard(workdir if is_lead_host() else None)) as board:
        for epoch in range(first, epochs + 1):
            state, images_per_second = _train_epoch(context, state, epoch, stop)
            step = int(state.step)
            if step < epoch * steps_per_epoch:
                checkpoints.save(state, record | {"iterator": context.batches.get_state()}, None)
                raise Interrupted(
                    f"stopped at step {step}, in epoch {epoch}, and saved; rerun the same command to resume"
                )
            row = _epoch_row(context, state, epoch, images_per_second)
            _save_quality_reference(context, workdir)
            state = state.replace(metrics=replicate(MetricSums.zero(), replicated(context.setup.mesh)))
            rows.append(row)
            if is_lead_host():
                runs.write_metrics(workdir, rows)
            board.write(row)
            log(epoch_metrics.format_row(row, epochs))
            saved = record | {"iterator": context.batches.get_state(), "epoch": epoch}
            checkpoints.save(state, saved, epoch_metrics.validation(row))
            if epoch_metrics.is_over(rows, epochs, patience):
                if epoch < epochs:
                    log(f"no lower validation loss for {patience} epochs: training ends")
                break
            if stop(now=True):
                raise Interrupted(f"stopped after epoch {epoch} and saved; rerun the same command to resume")
    return rows


def _train_epoch(
    context: TrainContext, state: TrainState, epoch: int, stop: StopConsensus
) -> tuple[TrainState, float | None]:
    """Steps until the epoch ends or a signal asks to stop.

    Returns:
      The state, and images per second; None for fewer than two steps.
    """
    setup = context.setup
    first, last = int(state.step) + 1, epoch * setup.steps_per_epoch
    progress = Progress(epoch, setup.config.epochs, setup.steps_per_epoch, (first - 1) % setup.steps_per_epoch)
    start = 0.0
    log_once("compiling the training step")
    for step in range(first, last + 1):
        state = setup.train_step(state, shard_batch(next(context.batches), setup.mesh))
        if step == first:  # which may compile, so the clock starts after it
            state.step.block_until_ready()
            start = time.monotonic()
        if step % _CHECK_STEPS == 0 or step == last:
            _check_finite(state.metrics)
        progress.update()
        context.on_step(step)
        if stop():
            log("asked to stop: saving")
            break
    _check_finite(state.metrics)
    progress.close()
    images = (int(state.step) - first) * setup.config.batch_size
    return state, images / (time.monotonic() - start) if images else None


def _check_finite(metrics: MetricSums) -> None:
    """Raises NonFiniteError if a loss or gradient of this epoch was not finite."""
    if (step := int(metrics.first_bad_step)) >= 0:
        name = ("training loss", "gradient norm")[int(metrics.bad_metric)]
        raise NonFiniteError(
            f"the {name} is not finite at step {step}; the last checkpoint is from before. "
            "A smaller --config.optimizer.learning_rate may help."
        )


def _epoch_row(context: TrainContext, state: TrainState, epoch: int, images_per_second: float | None) -> dict[str, Any]:
    """A row of `metrics.jsonl`."""
    start = time.monotonic()
    validation = {f"validation_{name}": x for name, x in _validate(context, state.variables()).items()}
    if state.average:
        averaged = _validate(context, state.averaged_variables())
        validation |= {f"ema_validation_{name}": x for name, x in averaged.items()}
    sums, step = jax.device_get(state.metrics), int(state.step)
    return {
        "epoch": epoch,
        "step": step,
        "learning_rate": float(context.setup.schedule(step - 1)),
        "train_loss": float(sums.loss / sums.count),
        f"train_{context.task.metric}": float(sums.correct / sums.count),
        **validation,
        "images_per_second": images_per_second,
        "validation_seconds": time.monotonic() - start,
    }


def _validate(context: TrainContext, variables: Variables) -> dict[str, float]:
    """Metrics of every validation image, each counted once."""
    batches = image_batches(context.validation.images, context.setup.config.eval_batch_size)
    outputs = compute_outputs(context.forward, variables, batches, context.setup.mesh)
    targets = {"label": context.validation.labels, "box": context.validation.boxes}
    return context.task.validation_metrics(outputs, targets)


def _save_quality_reference(context: TrainContext, workdir: Path) -> None:
    """Describes the run's photographs for `predict`, once, after the first epoch has decoded them all.

    The other processes wait here, since at the next checkpoint Orbax would let them wait for five minutes at most.
    """
    path = workdir / runs.QUALITY_REFERENCE

    def save() -> None:
        if not path.exists():
            images = (image for split in (context.examples, context.validation) for image in split.images)
            signatures = np.stack([signature(image) for image in images])
            data = context.data
            located = data.located("validation")
            QualityReference.fit(data.manifest, data.assignment, signatures, located).save(path)

    on_lead_host(save)
