"""Adam with a learning rate that decays each epoch (report section 7)."""

from typing import Any

import ml_collections
import optax


def learning_rate(optimizer: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """The step size of a step, constant within its epoch.

    'A learning rate decay of 0.01 each epoch' may be read as Keras' decay, lr / (1 + 0.01 e), or as 0.99^e; the first
    is the default.
    """

    def inverse(step: Any) -> Any:
        return optimizer.learning_rate / (1.0 + optimizer.decay * (step // steps_per_epoch))

    def exponential(step: Any) -> Any:
        return optimizer.learning_rate * (1.0 - optimizer.decay) ** (step // steps_per_epoch)

    return {"inverse": inverse, "exponential": exponential}[optimizer.schedule]


def make_optimizer(optimizer: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """Optax's Adam; L2 is part of the loss, as Keras has it, so it is not decoupled weight decay."""
    return optax.adam(learning_rate(optimizer, steps_per_epoch))
