"""The tasks: their losses, sums over masked batches and exact validation metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from cervix_jax import config as options
from cervix_jax.images.boxes import generalized_iou, iou
from cervix_jax.training.task import Localisation, make_task

LOGITS = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [5.0, 0.0, 0.0]], np.float32)
LABELS = np.array([0, 1, 2, 0], np.int32)
LOSSES = -log_softmax(LOGITS.astype(np.float64), axis=1)[np.arange(4), LABELS]
BATCH = {"label": jnp.asarray(LABELS), "mask": jnp.array([True, True, True, False])}


def task(**changes):
    return make_task(options.unflatten({name.replace("__", "."): value for name, value in changes.items()}))


def test_only_the_training_loss_is_weighted() -> None:
    weighted = task(loss__class_weights=(1.0, 0.5, 2.0))
    np.testing.assert_allclose(weighted.losses(jnp.asarray(LOGITS), {}, BATCH), LOSSES * [1, 0.5, 2, 1], rtol=1e-5)
    sums = weighted.metric_sums(jnp.asarray(LOGITS), BATCH)
    assert sums["loss"] == pytest.approx(LOSSES[:3].sum(), rel=1e-5)
    assert weighted.validation_metrics(LOGITS, {"label": LABELS})["loss"] == pytest.approx(LOSSES.mean())


def test_the_loss_of_a_blend_is_the_blend_of_the_losses() -> None:
    """Zhang et al. 2018: the cross-entropy is linear in the target."""
    partner = np.array([1, 2, 0, 0])
    part = np.array([1.0, 0.5, 0.75, 0.9])
    blended = BATCH | {"partner_label": jnp.asarray(partner), "own_part": jnp.asarray(part, jnp.float32)}
    targets = part[:, None] * np.eye(3)[LABELS] + (1 - part)[:, None] * np.eye(3)[partner]
    expected = -(targets * log_softmax(LOGITS.astype(np.float64), axis=1)).sum(axis=1)
    np.testing.assert_allclose(task().losses(jnp.asarray(LOGITS), {}, blended), expected, rtol=1e-5, atol=1e-6)
    soft = np.random.default_rng(0).dirichlet(np.ones(3), (2, 4)).astype(np.float32)  # of readers, and not the labels
    blended |= {"target": jnp.asarray(soft[0]), "partner_target": jnp.asarray(soft[1])}
    targets = part[:, None] * soft[0] + (1 - part)[:, None] * soft[1]
    expected = -(targets * log_softmax(LOGITS.astype(np.float64), axis=1)).sum(axis=1)
    np.testing.assert_allclose(task().losses(jnp.asarray(LOGITS), {}, blended), expected, rtol=1e-5)


def test_only_the_training_loss_is_softened() -> None:
    soft = task(loss__label_smoothing=0.1, loss__ambiguity=0.1)
    assert not np.allclose(soft.losses(jnp.asarray(LOGITS), {}, BATCH), LOSSES, rtol=1e-3)
    assert soft.validation_metrics(LOGITS, {"label": LABELS})["loss"] == pytest.approx(LOSSES.mean())


def test_masked_rows_are_not_counted() -> None:
    assert task().metric_sums(jnp.asarray(LOGITS), BATCH)["correct"] == 2
    assert task().validation_metrics(LOGITS, {"label": LABELS})["accuracy"] == 3 / 4


BOXES = np.array([[0.2, 0.2, 0.6, 0.6], [0.1, 0.3, 0.5, 0.9]], np.float32)
OUTPUTS = np.array([[0.2, 0.2, 0.6, 0.6, 3.0], [0.3, 0.3, 0.7, 0.9, 0.0]], np.float32)


def test_a_localiser_is_measured_by_overlap() -> None:
    expected = {
        "loss": float((1 - generalized_iou(OUTPUTS[:, :4], BOXES)).mean()),
        "mean_iou": float(iou(OUTPUTS[:, :4], BOXES).mean()),
    }
    metrics = Localisation().validation_metrics(OUTPUTS, {"box": BOXES})
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert metrics["mean_iou"] == pytest.approx((1 + 1 / 3) / 2, abs=1e-6)
    batch = {"box": jnp.asarray(BOXES), "mask": jnp.array([True, False])}
    assert Localisation().metric_sums(jnp.asarray(OUTPUTS), batch)["correct"] == pytest.approx(1)


def test_the_loss_of_a_localiser_falls_with_every_part_of_its_output() -> None:
    """A step against the gradient with respect to box, votes, their weights or the expected overlap lowers it."""
    rng = np.random.default_rng(0)
    parts = {
        "outputs": jnp.asarray(OUTPUTS + rng.normal(0, 0.05, OUTPUTS.shape), jnp.float32),
        "votes": jnp.asarray(BOXES[:, None, None] + rng.normal(0, 0.05, (2, 6, 5, 4)), jnp.float32),
        "vote_logits": jnp.asarray(rng.normal(size=(2, 6, 5)), jnp.float32),
    }

    @jax.jit
    def loss(parts):
        return Localisation().losses(parts["outputs"], parts, {"box": jnp.asarray(BOXES)}).sum()

    gradients = jax.jit(jax.grad(loss))(parts)
    for name, gradient in gradients.items():
        assert jnp.abs(gradient).max() > 0
        assert loss(parts | {name: parts[name] - 1e-3 * gradient}) < loss(parts)
    assert gradients["outputs"][:, 4].any()
