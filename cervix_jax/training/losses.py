"""Categorical cross-entropy, class weights and L2 (report sections 4.2, 7 and 9)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(logits: Float[Array, "b k"], labels: Int[Array, "b"]) -> Float[Array, "b"]:
    """-log of the probability of the true class, in nats, an example (report section 4.2)."""
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


def class_weighted(
    losses: Float[Array, "b"], labels: Int[Array, "b"], class_weights: Sequence[float]
) -> Float[Array, "b"]:
    """alpha_label * loss, whose sum the report divides by the number of examples (section 9); no weights: all 1."""
    return jnp.asarray(class_weights, losses.dtype)[labels] * losses if class_weights else losses


def l2_penalty(params: Mapping[str, Any]) -> Float[Array, ""]:
    """Sum of squares of all kernels; biases and batch norm's scales are not penalised (report section 7)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    squares = [jnp.sum(jnp.square(w)) for path, w in leaves if path[-1].key == "kernel"]
    return sum(squares, start=jnp.zeros(()))
