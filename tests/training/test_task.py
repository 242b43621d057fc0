"""Classification: its weighted loss, its sums over masked batches and its exact validation metrics."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from cervix_jax import config as options
from cervix_jax.training.task import make_task

LOGITS = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [5.0, 0.0, 0.0]], np.float32)
LABELS = np.array([0, 1, 2, 0], np.int32)
LOSSES = -log_softmax(LOGITS.astype(np.float64), axis=1)[np.arange(4), LABELS]
BATCH = {"label": jnp.asarray(LABELS), "mask": jnp.array([True, True, True, False])}


def task(**changes):
    return make_task(options.unflatten({name.replace("__", "."): value for name, value in changes.items()}))


def test_only_the_training_loss_is_weighted() -> None:
    weighted = task(loss__class_weights=(1.0, 0.5, 2.0))
    np.testing.assert_allclose(weighted.losses(jnp.asarray(LOGITS), BATCH), LOSSES * [1, 0.5, 2, 1], rtol=1e-5)
    sums = weighted.metric_sums(jnp.asarray(LOGITS), BATCH)
    assert sums["loss"] == pytest.approx(LOSSES[:3].sum(), rel=1e-5)
    assert weighted.validation_metrics(LOGITS, LABELS)["loss"] == pytest.approx(LOSSES.mean())


def test_masked_rows_are_not_counted() -> None:
    assert task().metric_sums(jnp.asarray(LOGITS), BATCH)["correct"] == 2
    assert task().validation_metrics(LOGITS, LABELS)["accuracy"] == 3 / 4
