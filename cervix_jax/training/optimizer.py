"""Adam with a learning rate that decays every epoch (report section 7), and what fine-tuning adds to it.

To add a schedule, add its function to `SCHEDULES` and its name to the choices of `optimizer.schedule` in `config.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from cervix_jax.models.backbones import BACKBONES


def learning_rate(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step, counted from 0; constant within an epoch once it is warmed up.

    Args:
      config: of the run; `optimizer` and `batch_size`, that of all devices together, are read.
      steps_per_epoch: of training.
    """
    optimizer = config.optimizer
    peak = optimizer.learning_rate
    if optimizer.reference_batch:
        peak *= config.batch_size / optimizer.reference_batch
    warmup_steps = round(optimizer.warmup_epochs * steps_per_epoch)
    decayed = SCHEDULES[optimizer.schedule]

    def schedule(step: Any) -> Any:
        warmup = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return decayed(warmup * peak, step // steps_per_epoch, config)

    return schedule


def _inverse(peak: Any, epoch: Any, config: ml_collections.ConfigDict) -> Any:
    return peak / (1.0 + config.optimizer.decay * epoch)


def _exponential(peak: Any, epoch: Any, config: ml_collections.ConfigDict) -> Any:
    return peak * (1.0 - config.optimizer.decay) ** epoch


def _cosine(peak: Any, epoch: Any, config: ml_collections.ConfigDict) -> Any:
    """To zero after the last epoch (Loshchilov & Hutter 2017, equation 5)."""
    return peak * 0.5 * (1.0 + jnp.cos(jnp.pi * epoch / config.epochs))


# (learning rate before decay, epoch from 0, config) -> learning rate. The report's 'learning rate decay of 0.01 each
# epoch' may be Keras' decay, 'inverse', which is the default, or 'exponential'.
SCHEDULES: dict[str, Callable[[Any, Any, ml_collections.ConfigDict], Any]] = {
    "inverse": _inverse,
    "exponential": _exponential,
    "cosine": _cosine,
}


def make_optimizer(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam, with what `config.optimizer` adds: clipping before it, decoupled weight decay, slower stages of a backbone.

    L2 is part of the loss, as in Keras.
    """
    options, rate = config.optimizer, learning_rate(config, steps_per_epoch)
    transforms = [optax.adamw(rate, weight_decay=options.weight_decay, mask=_is_kernel)]
    if not options.weight_decay:
        transforms = [optax.adam(rate)]
    if options.clip_norm:
        transforms.insert(0, optax.clip_by_global_norm(options.clip_norm))
    depths = stage_depths(config)
    if options.backbone_rate < 1 and depths:
        transforms.append(optax.stateless(lambda updates, _: _scale_stages(updates, depths, options.backbone_rate)))
    if options.unfreeze_epochs and depths:
        transforms.append(_unfreeze(depths, round(options.unfreeze_epochs * steps_per_epoch)))
    return optax.chain(*transforms) if len(transforms) > 1 else transforms[0]


def stage_depths(config: ml_collections.ConfigDict) -> dict[str, int]:
    """For each layer of the backbone's trained stages, how many stages before the head its stage is, from 1 on."""
    backbone = config.model.backbone
    if backbone.name == "none":
        return {}
    architecture = BACKBONES[backbone.name]
    stages = architecture.trained_stages(backbone.trainable, backbone.cut)
    depth = {stage: len(stages) - i for i, stage in enumerate(stages)}
    layers = architecture.layers_up_to(backbone.cut)
    return {layer.name: depth[layer.stage] for layer in layers if layer.stage in depth}


def _is_kernel(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _scale_stages(updates: Any, depths: Mapping[str, int], rate: float) -> Any:
    """Scales the updates of a stage of the backbone by the rate to the power of its depth."""
    return _map_backbone(updates, lambda update, layer: rate ** depths[layer] * update)


def _unfreeze(depths: Mapping[str, int], steps: int) -> optax.GradientTransformation:
    """Makes the updates of a stage of the backbone 0 for its depth times `steps` steps."""

    def init(params: Any) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByScheduleState]:
        del params
        thawed = _map_backbone(updates, lambda u, layer: jnp.where(state.count >= steps * depths[layer], u, 0))
        return thawed, optax.ScaleByScheduleState(count=state.count + 1)

    return optax.GradientTransformation(init, update)


def _map_backbone(updates: Any, function: Callable[[Any, str], Any]) -> Any:
    """Applies a function of an update and its layer's name to the updates of the backbone."""
    layers = {
        name: jax.tree.map(lambda update, name=name: function(update, name), layer)
        for name, layer in updates.get("backbone", {}).items()
    }
    return {**updates, "backbone": layers} if layers else updates
