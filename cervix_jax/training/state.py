"""What training changes and what it keeps: parameters, statistics, optimizer, and the frozen part."""

from collections.abc import Collection, Mapping
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
        parts = self.frozen.keys() | trained.keys()
        return {
            "params": {part: {**self.frozen.get(part, {}), **trained.get(part, {})} for part in parts},
            "batch_stats": self.batch_stats,
            "constants": self.constants,
        }

    def with_variables(self, variables: Variables) -> "TrainState":
        """The state with other variables; what is trained and what is frozen stays so."""

        def take(part: Variables) -> Variables:
            return {name: {layer: variables["params"][name][layer] for layer in part[name]} for name in part}

        return self.replace(
            params=take(self.params),
            frozen=take(self.frozen),
            batch_stats=variables["batch_stats"],
            constants=variables["constants"],
        )


def create_state(
    variables: Variables, tx: optax.GradientTransformation, trained_layers: Collection[str] = ()
) -> TrainState:
    """A state at step 0 around a model's variables.

    Args:
      variables: parameters of `head` and, if there is one, `backbone`.
      tx: the optimizer.
      trained_layers: layers of the backbone that are trained; the others go to `frozen`.
    """
    trained: Variables = {"head": variables["params"]["head"]}
    frozen: Variables = {}
    for layer, arrays in variables["params"].get("backbone", {}).items():
        (trained if layer in trained_layers else frozen).setdefault("backbone", {})[layer] = arrays
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=frozen,
        batch_stats=variables.get("batch_stats", {}),
        constants=variables.get("constants", {}),
        opt_state=tx.init(trained),
        metrics=MetricSums.zero(),
    )


def count_parameters(params: Mapping[str, Any]) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
