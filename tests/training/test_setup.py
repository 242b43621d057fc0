"""Abstract, random and initial states agree; a step trains what the config says."""

import jax
import numpy as np
import pytest

from cervix_jax import config as options
from cervix_jax.training.mesh import make_mesh
from cervix_jax.training.setup import make_setup

SMALL = {
    "dataset.image_size": (24, 16),
    "model.widths": (8,),
    "model.blocks": (1,),
    "model.backbone.name": "none",
    "optimizer.reference_batch": 32,
    "batch_size": 16,
}


@pytest.fixture(scope="module", params=[0.0, 0.9])
def setup(request):
    return make_setup(options.unflatten(SMALL | {"optimizer.ema_decay": request.param}), make_mesh(), 3, 5)


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def test_states_have_the_same_structure(setup) -> None:
    mean = np.full((24, 16, 3), 7, np.float32)
    initial = setup.initial_state(lambda: mean)
    assert shapes(setup.abstract_state()) == shapes(setup.random_state()) == shapes(initial)
    assert bool(initial.average) is (setup.config.optimizer.ema_decay > 0)
    np.testing.assert_array_equal(initial.constants["mean_image"], mean)
    for random, loaded in zip(
        jax.tree.leaves(setup.random_state().params), jax.tree.leaves(initial.params), strict=True
    ):
        np.testing.assert_array_equal(random, loaded)


def test_the_schedule_is_that_of_the_batch_and_the_epoch(setup) -> None:
    assert setup.schedule(0) == pytest.approx(1e-3 * 16 / 32)
    assert setup.schedule(5) == pytest.approx(1e-3 * 16 / 32 / 1.01)
