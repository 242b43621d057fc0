"""The state of training: trained and frozen parameters, batch statistics, optimizer, moving average and metrics."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct, traverse_util
from jaxtyping import Array

Leaf = Any  # a scalar array, or what a transformation of the tree replaces it with
Variables = dict[str, Any]  # collections of a Flax module: params, batch_stats, constants


def flatten_variables(variables: Variables) -> dict[str, np.ndarray]:
    """Every variable by its path, such as 'params/head/logits/kernel'; as safetensors files hold them."""
    return {"/".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(variables).items()}


def unflatten_variables(flat: Mapping[str, Any]) -> Variables:
    """The collections of a model from its variables by path."""
    nested = traverse_util.unflatten_dict({tuple(name.split("/")): x for name, x in flat.items()})
    return {name: nested.get(name, {}) for name in ("params", "batch_stats", "constants")}


class MetricSums(struct.PyTreeNode):
    """Sums over the examples of the current epoch, from which means are computed once when it ends.

    Attributes:
      loss: float32; in nats, of the examples' losses.
      correct: float32; examples that were classified correctly.
      count: float32; examples.
      first_bad_step: int32; first step whose loss or gradient was not finite, -1 while there is none.
      bad_metric: int32; which was not: 0 for the training loss, 1 for the gradient norm.
    """

    loss: Leaf
    correct: Leaf
    count: Leaf
    first_bad_step: Leaf
    bad_metric: Leaf

    @classmethod
    def zero(cls) -> "MetricSums":
        """At the start of an epoch."""

        def zero() -> Array:
            return jnp.zeros((), jnp.float32)

        def integer(value: int) -> Array:
            return jnp.full((), value, jnp.int32)

        return cls(zero(), zero(), zero(), integer(-1), integer(0))


class TrainState(struct.PyTreeNode):
    """Everything that a step reads and writes, and that a checkpoint holds.

    Attributes:
      step: int32; steps done.
      params: parameters that are trained.
      frozen: parameters that are not, in a separate tree, so that they have no gradients and no optimizer state.
      batch_stats: running means and variances of batch norm.
      constants: other variables of the model, such as the training set's mean image.
      opt_state: the optimizer's, for `params`.
      average: moving average of `params` and `batch_stats` (`config.optimizer.ema_decay`); empty if it is switched off.
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
        """The model's variables, trained and frozen ones merged.

        Args:
          params: in place of the state's, if given.
          batch_stats: in place of the state's, if given.
        """
        trained = self.params if params is None else params
        modules = self.frozen.keys() | trained.keys()
        return {
            "params": {name: {**self.frozen.get(name, {}), **trained.get(name, {})} for name in modules},
            "batch_stats": self.batch_stats if batch_stats is None else batch_stats,
            "constants": self.constants,
        }

    def averaged_variables(self) -> Variables:
        """The model's variables with the moving average in place of what is trained; `average` must not be empty."""
        return self.variables(self.average["params"], self.average["batch_stats"])

    def with_variables(self, variables: Variables) -> "TrainState":
        """The state with other variables, split into trained and frozen ones as before."""
        return self.replace(
            params=_select_layers(self.params, variables["params"]),
            frozen=_select_layers(self.frozen, variables["params"]),
            batch_stats=variables["batch_stats"],
            constants=variables["constants"],
        )

    def with_averaged_variables(self, variables: Variables) -> "TrainState":
        """The state with another moving average."""
        average = {"params": _select_layers(self.params, variables["params"]), "batch_stats": variables["batch_stats"]}
        return self.replace(average=average)


def create_state(
    variables: Variables,
    tx: optax.GradientTransformation,
    trained_layers: Collection[str] = (),
    *,
    averaged: bool = False,
) -> TrainState:
    """The state at step 0 with a model's variables.

    Args:
      variables: of the model, whose modules are `head` and, if it has one, `backbone`.
      tx: the optimizer.
      trained_layers: layers of the backbone that are trained; the others are frozen.
      averaged: whether to keep a moving average, which starts at the variables.
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
        # Copies, since the step donates each array of the state once.
        average=jax.tree.map(jnp.copy, {"params": trained, "batch_stats": batch_stats}) if averaged else {},
        metrics=MetricSums.zero(),
    )


def _select_layers(template: Variables, params: Variables) -> Variables:
    """Those layers of `params` that the template has."""
    return {name: {layer: params[name][layer] for layer in template[name]} for name in template}


def count_parameters(params: Mapping[str, Any]) -> int:
    """Number of scalars in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
