"""Categorical cross-entropy, class weights and L2 (report sections 4.2, 7 and 9)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], class_weights: Sequence[float] = ()
) -> Float[Array, "b"]:
    """-log of the probability of the true class, in nats, per example.

    Args:
      logits: of k classes.
      labels: 0 to k - 1.
      class_weights: factor of each class's terms (report section 9, which divides their sum by the number of examples);
        none: all 1.
    """
    losses = optax.losses.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype))
    return jnp.asarray(class_weights, losses.dtype)[labels] * losses if class_weights else losses


def l2_penalty(params: Mapping[str, Any]) -> Float[Array, ""]:
    """Sum of squares of all kernels; biases and batch norm's scales are not penalised (report section 7)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    squares = [jnp.sum(jnp.square(w)) for path, w in leaves if path[-1].key == "kernel"]
    return sum(squares, start=jnp.zeros(()))
