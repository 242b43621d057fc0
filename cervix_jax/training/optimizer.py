"""Adam with a learning rate that decays each epoch (report section 7)."""

from typing import Any

import jax.numpy as jnp
import ml_collections
import optax


def learning_rate(
    optimizer: ml_collections.ConfigDict, steps_per_epoch: int, batch_size: int | None = None
) -> optax.Schedule:
    """The step size of a step, constant within its epoch once it is warmed up.

    'A learning rate decay of 0.01 each epoch' may be read as Keras' decay, lr / (1 + 0.01 e), or as 0.99^e; the first
    is the default.

    Args:
      optimizer: `config.optimizer`.
      steps_per_epoch: steps that an epoch has.
      batch_size: of all devices, for `reference_batch`, which a config may leave out.
    """
    peak = optimizer.learning_rate
    if optimizer.reference_batch and batch_size is not None:
        peak *= batch_size / optimizer.reference_batch
    warmup_steps = round(optimizer.warmup_epochs * steps_per_epoch)

    def warmup(step: Any) -> Any:
        return jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0

    def inverse(step: Any) -> Any:
        return warmup(step) * peak / (1.0 + optimizer.decay * (step // steps_per_epoch))

    def exponential(step: Any) -> Any:
        return warmup(step) * peak * (1.0 - optimizer.decay) ** (step // steps_per_epoch)

    return {"inverse": inverse, "exponential": exponential}[optimizer.schedule]


def make_optimizer(
    optimizer: ml_collections.ConfigDict, steps_per_epoch: int, batch_size: int | None = None
) -> optax.GradientTransformation:
    """Optax's Adam; L2 is part of the loss, as Keras has it, so it is not decoupled weight decay."""
    return optax.adam(learning_rate(optimizer, steps_per_epoch, batch_size))
