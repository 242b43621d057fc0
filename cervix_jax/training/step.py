"""One training step over every device of a mesh.

Two layouts of the same step: 'jit' is one program on global arrays, which XLA partitions over the devices; 'pmap' is
one program per device, with explicit all-reduces. They compute the same, and each is the other's test.

Randomness is a function of (seed, step, example): augmentation and dropout of an example do not depend on how the batch
is laid out. Batch norm sees the global batch, its microbatches (`config.accumulate`), or groups of it
(`config.batch_norm_groups`). A batch that does not divide over the devices is padded with masked rows, which neither
the loss nor batch norm sees.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from cervix_jax.config import ConfigError
from cervix_jax.models.classifier import Classifier
from cervix_jax.models.layers import TrainingPass
from cervix_jax.training.augmentation import augment
from cervix_jax.training.compiler_memory import release_after_compiling
from cervix_jax.training.losses import l2_penalty
from cervix_jax.training.mesh import AXIS
from cervix_jax.training.state import MetricSums, TrainState, Variables
from cervix_jax.training.task import Task, make_task

TrainStep = Callable[[TrainState, dict[str, Array]], TrainState]


def make_train_step(
    model: Classifier, tx: optax.GradientTransformation, config: ml_collections.ConfigDict, mesh: Mesh
) -> TrainStep:
    """The compiled step (state, batch) -> state, which donates the old state's memory to the new one.

    The state is replicated. The batch, from `shard_batch`, holds `image` (uint8 or float [b h w 3]), `label` and
    `index` (int32 [b]), `mask` (bool [b]), which is True in `config.batch_size` rows, and `box` (float32 [b 4]) for a
    localiser.

    From then on this process gives back what compiling leaves; see `release_after_compiling`.

    Raises:
      ConfigError: groups of batch norm would be split between devices, or a device's rows not divide into microbatches.
    """
    rows = -(-config.batch_size // mesh.size)
    if rows % config.accumulate:
        raise ConfigError(
            f"config.accumulate is {config.accumulate}; with {mesh.size} devices it must be a divisor of {rows}, the "
            "images of each"
        )
    if config.batch_norm_groups > 1 and config.batch_norm_groups % mesh.size:
        raise ConfigError(
            f"config.batch_norm_groups is {config.batch_norm_groups}; with {mesh.size} devices it must be 1, for "
            f"statistics of the whole batch, or a multiple of {mesh.size}"
        )
    release_after_compiling()
    step = partial(_step, model, make_task(config), tx, config)
    if config.parallel == "jit":
        return jax.jit(partial(step, None), donate_argnums=0)
    devices = list(mesh.devices.flat)
    pmapped = jax.pmap(partial(step, AXIS), AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)

    def train_step(state: TrainState, batch: dict[str, Array]) -> TrainState:
        return pmapped(state, {key: x.reshape(mesh.size, -1, *x.shape[1:]) for key, x in batch.items()})

    return train_step


def _step(
    model: Classifier,
    task: Task,
    tx: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    axis: str | None,
    state: TrainState,
    batch: dict[str, Array],
) -> TrainState:
    """One step on a device's rows of the batch, reduced over `axis`; on the whole batch if `axis` is None."""
    num_devices = 1 if axis is None else jax.lax.axis_size(axis)
    pmean, psum = (partial(reduce, axis_name=axis) if axis else _identity for reduce in (jax.lax.pmean, jax.lax.psum))
    augment_keys, dropout_keys = example_keys(config.seed, state.step, batch["index"])
    batch = augment(batch | {"image": batch["image"].astype(jnp.float32)}, augment_keys, config.augmentation)
    batch["dropout_keys"] = dropout_keys
    is_padded = num_devices * len(batch["mask"]) > config.batch_size
    groups = config.batch_norm_groups
    num_microbatches = num_devices * config.accumulate

    def loss_fn(
        params: Variables, batch_stats: Variables, microbatch: dict[str, Array]
    ) -> tuple[Array, tuple[Array, Variables]]:
        """The loss of a microbatch, scaled so that the mean over microbatches and devices is that of the batch."""
        training = TrainingPass(
            microbatch["dropout_keys"],
            microbatch["mask"] if is_padded else None,
            axis_name=axis if groups == 1 else None,
            norm_groups=max(1, groups // num_devices),
        )
        variables = state.variables(params, batch_stats)
        (outputs, end_points), updates = model.apply(
            variables, microbatch["image"], training=training, mutable=["batch_stats"]
        )
        losses = task.losses(outputs, end_points, microbatch)
        loss = num_microbatches * jnp.sum(losses, where=microbatch["mask"]) / config.batch_size
        return loss + config.optimizer.l2 * l2_penalty(params), (outputs, updates.get("batch_stats", {}))

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if config.accumulate == 1:
        (loss, (outputs, batch_stats)), gradients = grad_fn(state.params, state.batch_stats, batch)
    else:
        loss, outputs, batch_stats, gradients = _accumulate(grad_fn, state, batch, config.accumulate)
    loss, gradients = pmean((loss, gradients))
    if groups > 1:
        batch_stats = pmean(batch_stats)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    sums = psum(task.metric_sums(outputs, batch) | {"count": batch["mask"].sum()})
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average:
        decay = ema_decay(config.optimizer.ema_decay, state.step + 1)
        current = {"params": params, "batch_stats": batch_stats}
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, current)
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=average,
        metrics=_add(state.metrics, sums, state.step + 1, loss, optax.tree.norm(gradients)),
    )


def _accumulate(
    grad_fn: Callable[..., Any], state: TrainState, batch: dict[str, Array], count: int
) -> tuple[Array, Float[Array, "b k"], Variables, Variables]:
    """Loss, outputs, batch statistics and gradients of a batch, computed in `count` microbatches one after another.

    A microbatch has every `count`-th row, so that each device computes its own rows of each.
    """

    def split(x: Array) -> Array:
        return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)

    def add(carry: tuple[Variables, Variables], microbatch: dict[str, Array]) -> tuple[Any, tuple[Array, Array]]:
        total, batch_stats = carry
        (loss, (outputs, batch_stats)), gradients = grad_fn(state.params, batch_stats, microbatch)
        return (jax.tree.map(lambda a, b: a + b / count, total, gradients), batch_stats), (loss, outputs)

    start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
    (gradients, batch_stats), (losses, outputs) = jax.lax.scan(add, start, jax.tree.map(split, batch))
    return losses.mean(), outputs.swapaxes(0, 1).reshape(-1, outputs.shape[-1]), batch_stats, gradients


def ema_decay(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """Factor of the old moving average at a step, counted from 1.

    (1 + step) / (10 + step), so that the random initialisation is soon forgotten, but at most `decay`.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def _identity(tree: Any) -> Any:
    return tree


def example_keys(seed: int, step: Int[Array, ""], index: Int[Array, "b"]) -> tuple[Key[Array, "b"], Key[Array, "b"]]:
    """Random keys of augmentation and of dropout, one per example."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    pairs = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(index)
    return pairs[:, 0], pairs[:, 1]


def _add(metrics: MetricSums, sums: dict[str, Array], step: Array, loss: Array, gradient_norm: Any) -> MetricSums:
    finite = jnp.isfinite(jnp.stack([loss, gradient_norm]))
    is_first_bad = (metrics.first_bad_step < 0) & ~finite.all()
    return MetricSums(
        loss=metrics.loss + sums["loss"],
        correct=metrics.correct + sums["correct"],
        count=metrics.count + sums["count"],
        first_bad_step=jnp.where(is_first_bad, step, metrics.first_bad_step),
        bad_metric=jnp.where(is_first_bad, jnp.argmin(finite), metrics.bad_metric).astype(jnp.int32),
    )
