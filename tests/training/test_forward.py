"""Every example once, in order, whatever the batch size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax.training.forward import all_logits
from cervix_jax.training.mesh import make_mesh


@jax.jit
def forward(variables, images):
    return images[:, 0, 0, :].astype(jnp.float32) * variables["scale"]


@pytest.mark.parametrize("count", [1, 5, 12])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_every_example_once_in_order(count: int, batch_size: int) -> None:
    """Photographs of one pixel that hold their own number; the last batch is filled up with others."""
    numbers = np.arange(-(-count // batch_size) * batch_size, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (len(numbers), 1, 1, 3))
    batches = [
        {"image": images[i : i + batch_size], "mask": numbers[i : i + batch_size] < count}
        for i in range(0, len(numbers), batch_size)
    ]
    logits = all_logits(forward, {"scale": 2.0}, batches, make_mesh())
    np.testing.assert_array_equal(logits, 2.0 * np.arange(count)[:, None] * np.ones(3))
