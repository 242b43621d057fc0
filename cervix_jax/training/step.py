"""One training step and one forward pass, jitted over a mesh.

Randomness is a function of (seed, step, example): the same example in the same step is augmented and dropped out alike
whatever the batch is laid out over. Batch norm sees the global batch, since XLA computes on global arrays.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Float, Int, Key

from cervix_jax.models.classifier import Classifier
from cervix_jax.training.augmentation import augment
from cervix_jax.training.losses import class_weighted_mean, cross_entropy, l2_penalty
from cervix_jax.training.state import MetricSums, TrainState, Variables

TrainStep = Callable[[TrainState, dict[str, Array]], TrainState]


def make_train_step(
    model: Classifier, tx: optax.GradientTransformation, config: ml_collections.ConfigDict
) -> TrainStep:
    """The jitted step (state, batch) -> state; the old state's memory is reused for the new one.

    The batch holds `image` (uint8 or float [b h w 3]), `label` and `index` (int32 [b]), without padding.
    """

    def step(state: TrainState, batch: dict[str, Array]) -> TrainState:
        augment_keys, dropout_keys = example_keys(config.seed, state.step, batch["index"])
        images = augment(batch["image"].astype(jnp.float32), augment_keys, config.augmentation)

        def objective(params: Variables) -> tuple[Array, tuple[Array, Variables]]:
            (logits, _), updates = model.apply(
                state.variables(params),
                images,
                train=True,
                dropout_keys=dropout_keys,
                mutable=["batch_stats"],
            )
            losses = cross_entropy(logits, batch["label"])
            loss = class_weighted_mean(losses, batch["label"], config.loss.class_weights)
            return loss + config.optimizer.l2 * l2_penalty(params), (logits, updates["batch_stats"])

        (loss, (logits, batch_stats)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        return state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            metrics=_add(state.metrics, logits, batch["label"], state.step + 1, loss, optax.tree.norm(gradient)),
        )

    return jax.jit(step, donate_argnums=0)


def make_forward(model: Classifier) -> Callable[[Variables, Array], Float[Array, "b k"]]:
    """The jitted evaluation pass (variables, images) -> logits."""

    def forward(variables: Variables, images: Array) -> Array:
        return model.apply(variables, images)[0]

    return jax.jit(forward)


def example_keys(seed: int, step: Int[Array, ""], index: Int[Array, "b"]) -> tuple[Key[Array, "b"], Key[Array, "b"]]:
    """Keys of augmentation and of dropout, one an example."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    pairs = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(index)
    return pairs[:, 0], pairs[:, 1]


def _add(
    sums: MetricSums, logits: Array, labels: Array, step: Array, objective: Array, gradient_norm: Any
) -> MetricSums:
    finite = jnp.isfinite(jnp.stack([objective, gradient_norm]))
    first = (sums.first_bad_step < 0) & ~finite.all()
    return MetricSums(
        loss=sums.loss + cross_entropy(logits, labels).sum(),
        correct=sums.correct + (logits.argmax(-1) == labels).sum(),
        count=sums.count + labels.shape[0],
        first_bad_step=jnp.where(first, step, sums.first_bad_step),
        bad_metric=jnp.where(first, jnp.argmin(finite), sums.bad_metric).astype(jnp.int32),
    )
