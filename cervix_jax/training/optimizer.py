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
        return decayed(warmup * peak, optimizer.decay, step // steps_per_epoch)

    return schedule


def _inverse(peak: Any, decay: float, epoch: Any) -> Any:
    return peak / (1.0 + decay * epoch)


def _exponential(peak: Any, decay: float, epoch: Any) -> Any:
    return peak * (1.0 - decay) ** epoch


# (learning rate before decay, config.optimizer.decay, epoch from 0) -> learning rate. The report's 'learning rate decay
# of 0.01 each epoch' may be Keras' decay, 'inverse', which is the default, or 'exponential'.
SCHEDULES: dict[str, Callable[[Any, float, Any], Any]] = {"inverse": _inverse, "exponential": _exponential}


def make_optimizer(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """Optax's Adam; L2 is part of the loss, as in Keras, so it is not decoupled weight decay."""
    return optax.adam(learning_rate(config, steps_per_epoch))
