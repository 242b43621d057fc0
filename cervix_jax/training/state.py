"""What training changes and what it keeps: parameters, statistics, optimizer, and the frozen part."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array

Leaf = Any  # a scalar array, or what a transformation of the tree puts in its place
Variables = dict[str, Any]  # collections of a Flax module: params, batch_stats, constants


class MetricSums(struct.PyTreeNode):
    """Sums over the examples of the current epoch, divided once when it ends.

    `first_bad_step` is the first step whose loss or gradient was not finite, -1 while there is none.
    """

    loss: Leaf
    correct: Leaf
    count: Leaf
    first_bad_step: Leaf
    bad_metric: Leaf  # 0: training loss, 1: gradient norm

    @classmethod
    def zero(cls) -> "MetricSums":
        def zero() -> Array:
            return jnp.zeros((), jnp.float32)

        def integer(value: int) -> Array:
            return jnp.full((), value, jnp.int32)

        return cls(zero(), zero(), zero(), integer(-1), integer(0))


class TrainState(struct.PyTreeNode):
    """Everything that a step reads and writes; also what a checkpoint holds.

    Attributes:
      step: steps done.
      params: parameters that are trained.
      frozen: parameters that are not, in a tree of their own: no gradient and no optimizer state is ever made for them.
      batch_stats: running means and variances of batch norm.
      constants: other variables of the model, such as the training set's mean photograph.
      opt_state: of `params`.
      metrics: of the epoch so far.
    """

    step: Leaf
    params: Variables
    frozen: Variables
    batch_stats: Variables
    constants: Variables
    opt_state: optax.OptState
    metrics: MetricSums

    def variables(self, params: Variables | None = None) -> Variables:
        """The model's variables, trained and frozen parts together; with other trained ones if given."""
        trained = self.params if params is None else params
        return {
            "params": {**self.frozen, **trained},
            "batch_stats": self.batch_stats,
            "constants": self.constants,
        }


def create_state(variables: Variables, tx: optax.GradientTransformation, *, train_backbone: bool) -> TrainState:
    """A state at step 0 around a model's variables; a backbone that is not trained goes to `frozen`."""
    params = variables["params"]
    kept = {} if train_backbone else {k: v for k, v in params.items() if k == "backbone"}
    trained = {k: v for k, v in params.items() if k not in kept}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=kept,
        batch_stats=variables.get("batch_stats", {}),
        constants=variables.get("constants", {}),
        opt_state=tx.init(trained),
        metrics=MetricSums.zero(),
    )


def count_parameters(params: Mapping[str, Any]) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
