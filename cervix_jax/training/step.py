"""One training step over every device of a mesh.

Two layouts of the same step: 'jit' is one program on global arrays, which XLA splits over the devices; 'pmap' is one
program a device, which averages over the others where it says so. They compute the same, and test each other.

Randomness is a function of (seed, step, example): the same example in the same step is augmented and dropped out alike
whatever the batch is laid out over. Batch norm sees the global batch. A batch that does not divide over the devices
comes filled up with rows that neither the loss nor batch norm sees.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from cervix_jax.models.classifier import Classifier
from cervix_jax.models.layers import TrainingPass
from cervix_jax.training.augmentation import augment
from cervix_jax.training.losses import class_weighted, cross_entropy, l2_penalty
from cervix_jax.training.mesh import AXIS
from cervix_jax.training.state import MetricSums, TrainState, Variables

TrainStep = Callable[[TrainState, dict[str, Array]], TrainState]


def make_train_step(
    model: Classifier, tx: optax.GradientTransformation, config: ml_collections.ConfigDict, mesh: Mesh
) -> TrainStep:
    """The compiled step (state, batch) -> state; the old state's memory is reused for the new one.

    The state is whole on every device. The batch, by `shard_batch`, holds `image` (uint8 or float [b h w 3]), `label`
    and `index` (int32 [b]) and `mask` (bool [b]), `config.batch_size` of its rows True.
    """
    if config.parallel == "jit":
        return jax.jit(partial(_step, model, tx, config, None), donate_argnums=0)
    one_device = partial(_step, model, tx, config, AXIS)
    devices = list(mesh.devices.flat)
    every_device = jax.pmap(one_device, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)

    def step(state: TrainState, batch: dict[str, Array]) -> TrainState:
        return every_device(state, {key: x.reshape(mesh.size, -1, *x.shape[1:]) for key, x in batch.items()})

    return step


def _step(
    model: Classifier,
    tx: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    axis: str | None,
    state: TrainState,
    batch: dict[str, Array],
) -> TrainState:
    """One step on a device's part of the batch, the others' along `axis`; on all of it if that is None."""
    parts = 1 if axis is None else jax.lax.axis_size(axis)
    mean, total = (partial(reduce, axis_name=axis) if axis else _same for reduce in (jax.lax.pmean, jax.lax.psum))
    augment_keys, dropout_keys = example_keys(config.seed, state.step, batch["index"])
    images = augment(batch["image"].astype(jnp.float32), augment_keys, config.augmentation)
    filled_up = parts * len(batch["mask"]) > config.batch_size
    parts *= config.accumulate

    def loss_fn(
        params: Variables, batch_stats: Variables, part: dict[str, Array]
    ) -> tuple[Array, tuple[Array, Variables]]:
        """Of a part of the batch, such that the mean over the parts is that of the batch."""
        training = TrainingPass(part["dropout_keys"], part["mask"] if filled_up else None, axis)
        variables = state.variables(params, batch_stats)
        (logits, _), updates = model.apply(variables, part["image"], training=training, mutable=["batch_stats"])
        losses = class_weighted(cross_entropy(logits, part["label"]), part["label"], config.loss.class_weights)
        loss = parts * jnp.sum(losses, where=part["mask"]) / config.batch_size
        return loss + config.optimizer.l2 * l2_penalty(params), (logits, updates.get("batch_stats", {}))

    rows = {"image": images, "dropout_keys": dropout_keys, "label": batch["label"], "mask": batch["mask"]}
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if config.accumulate == 1:
        (loss, (logits, batch_stats)), gradient = grad_fn(state.params, state.batch_stats, rows)
    else:
        loss, logits, batch_stats, gradient = _accumulate(grad_fn, state, rows, config.accumulate)
    loss, gradient = mean((loss, gradient))
    updates, opt_state = tx.update(gradient, state.opt_state, state.params)
    sums = total(_sums(logits, batch["label"], batch["mask"]))
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average:
        decay = ema_decay(config.optimizer.ema_decay, state.step + 1)
        new = {"params": params, "batch_stats": batch_stats}
        average = jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, average, new)
    return state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=average,
        metrics=_add(state.metrics, sums, state.step + 1, loss, optax.tree.norm(gradient)),
    )


def _accumulate(
    grad_fn: Callable[..., Any], state: TrainState, rows: dict[str, Array], count: int
) -> tuple[Array, Float[Array, "b k"], Variables, Variables]:
    """Loss, logits, batch statistics and gradient of a batch, computed in parts one after another.

    Each part has every `count`-th row, so that each device computes its own rows of each part.
    """

    def split(x: Array) -> Array:
        return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)

    def add(carry: tuple[Variables, Variables], part: dict[str, Array]) -> tuple[Any, tuple[Array, Array]]:
        total, batch_stats = carry
        (loss, (logits, batch_stats)), gradient = grad_fn(state.params, batch_stats, part)
        return (jax.tree.map(lambda a, b: a + b / count, total, gradient), batch_stats), (loss, logits)

    start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
    (gradient, batch_stats), (losses, logits) = jax.lax.scan(add, start, jax.tree.map(split, rows))
    return losses.mean(), logits.swapaxes(0, 1).reshape(-1, logits.shape[-1]), batch_stats, gradient


def ema_decay(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """What is kept of the moving average at a step, counted from 1.

    (1 + step) / (10 + step) at first, so that the random start is soon forgotten; at most `decay`.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def _same(tree: Any) -> Any:
    return tree


def example_keys(seed: int, step: Int[Array, ""], index: Int[Array, "b"]) -> tuple[Key[Array, "b"], Key[Array, "b"]]:
    """Keys of augmentation and of dropout, one an example."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    pairs = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(index)
    return pairs[:, 0], pairs[:, 1]


def _sums(logits: Float[Array, "b k"], labels: Int[Array, "b"], mask: Bool[Array, "b"]) -> dict[str, Array]:
    return {
        "loss": jnp.sum(cross_entropy(logits, labels), where=mask),
        "correct": jnp.sum(logits.argmax(-1) == labels, where=mask),
        "count": mask.sum(),
    }


def _add(metrics: MetricSums, sums: dict[str, Array], step: Array, loss_fn: Array, gradient_norm: Any) -> MetricSums:
    finite = jnp.isfinite(jnp.stack([loss_fn, gradient_norm]))
    first = (metrics.first_bad_step < 0) & ~finite.all()
    return MetricSums(
        loss=metrics.loss + sums["loss"],
        correct=metrics.correct + sums["correct"],
        count=metrics.count + sums["count"],
        first_bad_step=jnp.where(first, step, metrics.first_bad_step),
        bad_metric=jnp.where(first, jnp.argmin(finite), metrics.bad_metric).astype(jnp.int32),
    )
