"""Categorical cross-entropy, class weights and L2 (report sections 4.2, 7 and 9)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "b k"],
    labels: Int[Array, "b"],
    class_weights: Sequence[float] = (),
    *,
    targets: Float[Array, "b k"] | None = None,
    label_smoothing: float = 0.0,
    ambiguity: float = 0.0,
) -> Float[Array, "b"]:
    """Cross-entropy in nats per example: -log of the probability of the true class, unless targets are softened.

    Args:
      logits: of k classes.
      labels: 0 to k - 1.
      class_weights: factor of each class's terms (report section 9, which divides their sum by the number of examples);
        none: all 1.
      targets: distributions in place of the labels', such as the shares of several readers.
      label_smoothing: see `soft_targets`.
      ambiguity: see `soft_targets`.
    """
    if targets is None:
        targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if class_weights:
        targets = targets * jnp.asarray(class_weights, targets.dtype)
    if label_smoothing or ambiguity:
        targets = targets @ soft_targets(logits.shape[-1], label_smoothing, ambiguity).astype(logits.dtype)
    return optax.losses.softmax_cross_entropy(logits, targets)


def soft_targets(num_classes: int, label_smoothing: float, ambiguity: float) -> Float[np.ndarray, "k k"]:
    """The distribution that training aims at for each label; rows sum to one.

    Args:
      num_classes: k.
      label_smoothing: probability that is spread evenly over all classes (Szegedy et al. 2016, section 7).
      ambiguity: probability that moves between the last two classes, types 2 and 3, before.
    """
    targets = np.eye(num_classes)
    targets[-2:, -2:] += ambiguity * np.array([[-1, 1], [1, -1]])
    return (1 - label_smoothing) * targets + label_smoothing / num_classes


def l2_penalty(params: Mapping[str, Any]) -> Float[Array, ""]:
    """Sum of squares of all kernels; biases and batch norm's scales are not penalised (report section 7)."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    squares = [jnp.sum(jnp.square(w)) for path, w in leaves if path[-1].key == "kernel"]
    return sum(squares, start=jnp.zeros(()))
