"""Adam with a learning rate that decays every epoch (report section 7).

To add a schedule, add its function to `SCHEDULES` and its name to the choices of `optimizer.schedule` in `config.py`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import optax


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
    """Optax's Adam; L2 is part of the loss, as in Keras, so it is not decoupled weight decay."""
    return optax.adam(learning_rate(config, steps_per_epoch))
