"""The head that votes for a box: its shapes, its symmetries and that it learns where something is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cervix_jax.images.boxes import iou
from cervix_jax.models.heads.box_voting import BoxVotingHead
from cervix_jax.models.layers import TrainingPass
from cervix_jax.training.task import Localisation

HEAD = BoxVotingHead(width=16, dropout_rate=0.0)


def blobs(n: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """Feature maps [n 12 10 4], noise but for a bright rectangle; and its box."""
    rng = np.random.default_rng(seed)
    maps, boxes = rng.normal(0, 0.3, (n, 12, 10, 4)), np.zeros((n, 4))
    for i in range(n):
        top, left = rng.integers(0, 7), rng.integers(0, 5)
        down, across = rng.integers(3, 6), rng.integers(3, 6)
        maps[i, top : top + down, left : left + across, 0] += 3
        boxes[i] = left / 10, top / 12, (left + across) / 10, (top + down) / 12
    return jnp.asarray(maps, jnp.float32), jnp.asarray(boxes, jnp.float32)


def test_the_box_lies_around_where_the_votes_weigh() -> None:
    x = blobs(3)[0]
    output, end_points = HEAD.apply(HEAD.init(jax.random.key(0), x), x)
    assert output.shape == (3, 5)
    assert end_points["votes"].shape == (3, 12, 10, 4)
    weights = np.exp(end_points["vote_logits"]) / np.exp(end_points["vote_logits"]).sum(axis=(1, 2), keepdims=True)
    expected = np.einsum("bhw,bhwk->bk", weights, end_points["votes"])
    np.testing.assert_allclose(output[:, :4], expected, atol=1e-5)
    left, top, right, bottom = np.moveaxis(np.asarray(end_points["votes"]), -1, 0)
    assert (left < right).all()
    assert (top < bottom).all()


def test_each_location_votes_for_a_box_around_itself() -> None:
    x = jnp.zeros((1, 4, 5, 3))
    _, end_points = HEAD.apply(HEAD.init(jax.random.key(0), x), x)
    votes = np.asarray(end_points["votes"][0])
    centers = np.stack(np.meshgrid((np.arange(5) + 0.5) / 5, (np.arange(4) + 0.5) / 4), axis=-1)
    assert (votes[..., :2] < centers).all()
    assert (votes[..., 2:] > centers).all()
    np.testing.assert_allclose((votes[..., 2:] - votes[..., :2]).mean(), 0.4, atol=1e-5)  # twice START


def test_it_learns_where_something_is_and_how_sure_it_is() -> None:
    task, tx = Localisation(), optax.adam(3e-3)
    maps, boxes = blobs(256)
    variables = HEAD.init(jax.random.key(0), maps[:1])

    @jax.jit
    def step(params, stats, opt_state, x, box):
        def loss_fn(params):
            (output, end_points), updates = HEAD.apply(
                {"params": params, "batch_stats": stats}, x, training=TrainingPass(), mutable=["batch_stats"]
            )
            return task.losses(output, end_points, {"box": box}).mean(), updates["batch_stats"]

        gradients, stats = jax.grad(loss_fn, has_aux=True)(params)
        updates, opt_state = tx.update(gradients, opt_state)
        return optax.apply_updates(params, updates), stats, opt_state

    params, stats = variables["params"], variables["batch_stats"]
    opt_state = tx.init(params)
    for i in range(60):
        rows = np.arange(32) + 32 * (i % 8)
        params, stats, opt_state = step(params, stats, opt_state, maps[rows], boxes[rows])
    x, target = blobs(64, seed=1)
    output, _ = HEAD.apply({"params": params, "batch_stats": stats}, x)
    overlap = np.asarray(iou(output[:, :4], target))
    assert overlap.mean() > 0.6
    assert 1 / (1 + np.exp(-np.asarray(output[:, 4]).mean())) == pytest.approx(overlap.mean(), abs=0.2)
