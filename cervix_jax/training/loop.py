"""Trains one run from start to end, or on from wherever its work directory stands.

In order: claim the work directory; prepare the data; build model, optimizer and state; restore the latest checkpoint if
there is one; for each epoch: steps, validation, a line of metrics, a checkpoint. An interruption saves within the
epoch; the same command goes on from there and ends with the same numbers.
"""

import dataclasses
import statistics
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.datasets import pipeline
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.images.near_duplicates import signature
from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.progress import Progress, log
from cervix_jax.training import initialisation
from cervix_jax.training.checkpoints import Checkpoints
from cervix_jax.training.forward import Forward, image_batches, make_forward, predict_logits
from cervix_jax.training.mesh import make_mesh, replicate, replicated, shard_batch
from cervix_jax.training.metrics import classification_metrics, softmax
from cervix_jax.training.optimizer import learning_rate, make_optimizer
from cervix_jax.training.processes import StopConsensus, is_lead_host, lead_host_first, on_lead_host, sum_over_processes
from cervix_jax.training.signals import stop_signals
from cervix_jax.training.state import MetricSums, TrainState, Variables, count_parameters
from cervix_jax.training.step import TrainStep, make_train_step
from cervix_jax.training.tensorboard import TensorBoard

CHECK_EVERY = 20  # steps between looks at whether the loss is still finite; each look waits for the device


class NonFiniteError(UserError):
    """The loss or its gradient is not finite; the last checkpoint is from before."""


@dataclasses.dataclass(frozen=True)
class TrainContext:
    """What stays the same while a run is trained."""

    config: ml_collections.ConfigDict
    mesh: Mesh
    data: pipeline.PreparedDataset
    examples: pipeline.Examples
    validation: pipeline.Examples
    batches: grain.DatasetIterator
    steps_per_epoch: int
    train_step: TrainStep
    forward: Forward


def train(
    config: ml_collections.ConfigDict, workdir: Path, data: pipeline.PreparedDataset | None = None
) -> dict[str, Any]:
    """Trains until `config.epochs` epochs are done.

    Args:
      config: of the run.
      workdir: of the run; made if missing.
      data: `pipeline.load_dataset(config)`, if that is at hand.

    Returns:
      `best`: epoch, loss and accuracy of the best validation epoch; `best_ema`: likewise for the moving average, if one
      is kept; `images_per_second`: median over epochs, without compilation and validation; `epochs`; `parameters`: how
      many are `trained` and `frozen`.

    Raises:
      ConfigError, RunError, ManualDirError, DatasetError, WeightsError: something needed is missing or does not fit.
      NonFiniteError: naming metric and step.
      Interrupted: on SIGINT or SIGTERM, after saving.
    """
    options.validate(config)
    on_lead_host(lambda: runs.open_run(workdir, config))
    data = lead_host_first(lambda: pipeline.load_dataset(config)) if data is None else data
    examples = data.examples("train")
    model = make_classifier(config.model.to_dict(), len(examples.class_names))
    record = {
        "class_names": list(examples.class_names),
        "class_shares": examples.class_shares(),
        "preprocessing": model.preprocessing,
        "data_fingerprint": data.fingerprint,
    }
    runs.check_data(workdir, data.fingerprint)
    on_lead_host(lambda: runs.write_record(workdir, **record))
    context, state = _start(config, model, examples, data)
    record = {**record, "config": config.to_dict()}
    sizes = {"trained": count_parameters(state.params), "frozen": count_parameters(state.frozen)}
    log(f"{len(examples)} training and {len(context.validation)} validation images")
    log(
        f"{sizes['trained']:,} parameters trained, {sizes['frozen']:,} frozen; {context.mesh.size} device(s)"
        + (f" of {jax.process_count()} processes" if jax.process_count() > 1 else "")
    )
    averaged = config.optimizer.ema_decay > 0
    with Checkpoints.open(workdir, averaged=averaged) as checkpoints, stop_signals() as stopping:
        if checkpoints.latest is not None:
            state, saved = checkpoints.restore(checkpoints.latest, state, replicated(context.mesh))
            context.batches.set_state(saved["iterator"])
            log(f"continuing {workdir} after step {checkpoints.latest}")
        rows = _run_epochs(context, state, checkpoints, StopConsensus(stopping), workdir, record)
    speeds = [row["images_per_second"] for row in rows if row["images_per_second"] is not None]
    return {
        "best": _best(rows),
        **({"best_ema": _best(rows, "ema_")} if averaged else {}),
        "images_per_second": statistics.median(speeds) if speeds else None,
        "epochs": len(rows),
        "parameters": sizes,
    }


def _best(rows: list[dict[str, Any]], prefix: str = "") -> dict[str, Any]:
    best = min(rows, key=lambda row: row[f"{prefix}validation_loss"])
    return {"epoch": best["epoch"]} | {key: best[f"{prefix}validation_{key}"] for key in ("loss", "accuracy")}


def _start(
    config: ml_collections.ConfigDict,
    model: Classifier,
    examples: pipeline.Examples,
    data: pipeline.PreparedDataset,
) -> tuple[TrainContext, TrainState]:
    """Compiles nothing yet; the state is that of step 0."""
    mesh = make_mesh()
    steps_per_epoch = len(examples) // config.batch_size
    batches = pipeline.training_batches(
        examples, config, process_index=jax.process_index(), process_count=jax.process_count()
    )
    tx = make_optimizer(config.optimizer, steps_per_epoch, config.batch_size)
    context = TrainContext(
        config=config,
        mesh=mesh,
        data=data,
        examples=examples,
        validation=data.examples("validation"),
        batches=batches,
        steps_per_epoch=steps_per_epoch,
        train_step=make_train_step(model, tx, config, mesh),
        forward=make_forward(model),
    )

    def mean_image() -> Float[np.ndarray, "h w 3"]:
        total = sum_over_processes(examples.pixel_sums(jax.process_index(), jax.process_count()))
        return (total / len(examples)).astype(np.float32)

    return context, initialisation.initial_state(model, tx, config, mean_image, replicated(mesh))


def _run_epochs(
    context: TrainContext,
    state: TrainState,
    checkpoints: Checkpoints,
    stopping: StopConsensus,
    workdir: Path,
    record: dict[str, Any],
) -> list[dict[str, Any]]:
    """Trains the epochs that are left; returns the metrics of all."""
    epochs, steps_per_epoch = context.config.epochs, context.steps_per_epoch
    done = int(state.step)
    rows = [row for row in runs.read_metrics(workdir) if row["step"] <= done]  # later ones were lost in a crash
    if done >= epochs * steps_per_epoch:
        log(f"nothing to do: {done // steps_per_epoch} epochs are done and {epochs} were asked for")
        _write_quality_reference(context, workdir)
    with closing(TensorBoard(workdir if is_lead_host() else None)) as board:
        for epoch in range(done // steps_per_epoch + 1, epochs + 1):
            state, images_per_second = _train_epoch(context, state, epoch, stopping)
            step = int(state.step)
            if step < epoch * steps_per_epoch:
                checkpoints.save(state, record | {"iterator": context.batches.get_state()}, None)
                raise Interrupted(f"stopped at step {step}, in epoch {epoch}, and saved; the same command continues")
            row = _epoch_metrics(context, state, epoch, images_per_second)
            _write_quality_reference(context, workdir)
            state = state.replace(metrics=replicate(MetricSums.zero(), replicated(context.mesh)))
            rows.append(row)
            if is_lead_host():
                runs.write_metrics(workdir, rows)
            board.write(row)
            log(_line(row, epochs))
            scores = {
                name.replace("validation_", ""): x
                for name, x in row.items()
                if name.endswith(("validation_loss", "validation_accuracy"))
            }
            checkpoints.save(state, record | {"iterator": context.batches.get_state(), "epoch": epoch}, scores)
            if epoch < epochs and stopping(now=True):
                raise Interrupted(f"stopped after epoch {epoch} and saved; the same command continues")
    return rows


def _train_epoch(
    context: TrainContext, state: TrainState, epoch: int, stopping: StopConsensus
) -> tuple[TrainState, float | None]:
    """Steps until the epoch ends or a signal asks to stop; returns images a second, None for fewer than two steps."""
    start, end = int(state.step), epoch * context.steps_per_epoch
    progress = Progress(epoch, context.config.epochs, context.steps_per_epoch, start % context.steps_per_epoch)
    began = 0.0
    for step in range(start + 1, end + 1):
        state = context.train_step(state, shard_batch(next(context.batches), context.mesh))
        if step == start + 1:  # the first step may compile, so the clock starts after it
            state.step.block_until_ready()
            began = time.monotonic()
        if step % CHECK_EVERY == 0 or step == end:
            check_finite(state.metrics)
        progress.update()
        if stopping():
            log("asked to stop: saving")
            break
    check_finite(state.metrics)
    progress.close()
    images = (int(state.step) - start - 1) * context.config.batch_size
    return state, images / (time.monotonic() - began) if images else None


def _write_quality_reference(context: TrainContext, workdir: Path) -> None:
    """What the run's photographs look like, for `inference`; once, when all are decoded anyhow.

    The others wait: at the next checkpoint they would do so for Orbax' five minutes at most.
    """
    on_lead_host(partial(_save_quality_reference, context, workdir / runs.QUALITY_REFERENCE))


def _save_quality_reference(context: TrainContext, path: Path) -> None:
    if not path.exists():
        parts = (context.examples, context.validation)
        seen = np.stack([signature(part.image(i)) for part in parts for i in range(len(part))])
        QualityReference.fit(context.data.manifest, context.data.assignment, seen).save(path)


def _epoch_metrics(
    context: TrainContext, state: TrainState, epoch: int, images_per_second: float | None
) -> dict[str, Any]:
    """One line of `metrics.jsonl`."""
    began = time.monotonic()
    scores = {f"validation_{key}": x for key, x in evaluate(context, state.variables()).items()}
    if state.average:
        averaged = evaluate(context, state.averaged_variables())
        scores |= {f"ema_validation_{key}": x for key, x in averaged.items()}
    sums, step, config = jax.device_get(state.metrics), int(state.step), context.config
    schedule = learning_rate(config.optimizer, context.steps_per_epoch, config.batch_size)
    return {
        "epoch": epoch,
        "step": step,
        "learning_rate": float(schedule(step - 1)),
        "train_loss": float(sums.loss / sums.count),
        "train_accuracy": float(sums.correct / sums.count),
        **scores,
        "images_per_second": images_per_second,
        "validation_seconds": time.monotonic() - began,
    }


def evaluate(context: TrainContext, variables: Variables) -> dict[str, float]:
    """Exact loss and accuracy on the validation images; see `classification_metrics`."""
    batches = image_batches(context.validation.images, context.config.eval_batch_size)
    logits = predict_logits(context.forward, variables, batches, context.mesh)
    scores = classification_metrics(softmax(logits), context.validation.labels, context.validation.class_names)
    return {key: scores[key] for key in ("loss", "accuracy")}


def check_finite(metrics: MetricSums) -> None:
    """Raises NonFiniteError, naming metric and step, if a loss or gradient of this epoch was not finite."""
    if (step := int(metrics.first_bad_step)) >= 0:
        name = ("training loss", "gradient norm")[int(metrics.bad_metric)]
        raise NonFiniteError(
            f"the {name} is not finite at step {step}; the last checkpoint is from before. "
            "A smaller --config.optimizer.learning_rate may help."
        )


def _line(row: dict[str, Any], epochs: int) -> str:
    speed = f"{row['images_per_second']:.1f} images/s" if row["images_per_second"] else ""
    averaged = (
        f"averaged {row['ema_validation_loss']:.4f} {row['ema_validation_accuracy']:.3f}  "
        if "ema_validation_loss" in row
        else ""
    )
    return (
        f"epoch {row['epoch']}/{epochs}  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.3f}  "
        f"validation loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.3f}  "
        f"{averaged}{speed}"
    )
