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
      average: `params` and `batch_stats`, averaged over the last steps (`config.optimizer.ema_decay`); empty if that is
        switched off.
      metrics: of the epoch so far.
    """

    step: Leaf
    params: Variables
    frozen: Variables
    batch_stats: Variables
    constants: Variables
    opt_state: optax.OptState
    average: Variables
    metrics: MetricSums

    def variables(self, params: Variables | None = None, batch_stats: Variables | None = None) -> Variables:
        """The model's variables, trained and frozen parts together; with other trained ones or statistics if given."""
        trained = self.params if params is None else params
        parts = self.frozen.keys() | trained.keys()
        return {
            "params": {part: {**self.frozen.get(part, {}), **trained.get(part, {})} for part in parts},
            "batch_stats": self.batch_stats if batch_stats is None else batch_stats,
            "constants": self.constants,
        }

    def averaged_variables(self) -> Variables:
        """The model's variables with the average in place of what is trained; only where there is an average."""
        return self.variables(self.average["params"], self.average["batch_stats"])

    def with_variables(self, variables: Variables) -> "TrainState":
        """The state with other variables; what is trained and what is frozen stays so."""
        return self.replace(
            params=_like(self.params, variables["params"]),
            frozen=_like(self.frozen, variables["params"]),
            batch_stats=variables["batch_stats"],
            constants=variables["constants"],
        )

    def with_averaged_variables(self, variables: Variables) -> "TrainState":
        """The state with another average."""
        average = {"params": _like(self.params, variables["params"]), "batch_stats": variables["batch_stats"]}
        return self.replace(average=average)


def create_state(
    variables: Variables,
    tx: optax.GradientTransformation,
    trained_layers: Collection[str] = (),
    *,
    averaged: bool = False,
) -> TrainState:
    """A state at step 0 around a model's variables.

    Args:
      variables: parameters of `head` and, if there is one, `backbone`.
      tx: the optimizer.
      trained_layers: layers of the backbone that are trained; the others go to `frozen`.
      averaged: whether a moving average is kept; it starts at the variables.
    """
    trained: Variables = {"head": variables["params"]["head"]}
    frozen: Variables = {}
    for layer, arrays in variables["params"].get("backbone", {}).items():
        (trained if layer in trained_layers else frozen).setdefault("backbone", {})[layer] = arrays
    batch_stats = variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=frozen,
        batch_stats=batch_stats,
        constants=variables.get("constants", {}),
        opt_state=tx.init(trained),
        # Copies, since a step may reuse the memory of each of its arguments once.
        average=jax.tree.map(jnp.copy, {"params": trained, "batch_stats": batch_stats}) if averaged else {},
        metrics=MetricSums.zero(),
    )


def _like(part: Variables, params: Variables) -> Variables:
    """The layers of `params` that `part` has."""
    return {name: {layer: params[name][layer] for layer in part[name]} for name in part}


def count_parameters(params: Mapping[str, Any]) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
