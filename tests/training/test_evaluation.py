"""Every example once, in order, whatever the batch size."""

import jax
import numpy as np
import pytest

from cervix_jax.data.pipeline import evaluation_batches
from cervix_jax.training.evaluation import all_logits
from cervix_jax.training.mesh import make_mesh


class Numbers:
    """Photographs of one pixel that hold their own number."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        if not 0 <= i < self.count:
            raise IndexError(i)
        return {"image": np.full((1, 1, 3), i, np.uint8), "index": np.int32(i), "mask": np.bool_(True)}


@jax.jit
def forward(variables, images):
    return images[:, 0, 0, :].astype(np.float32) * variables["scale"]


@pytest.mark.parametrize("count", [1, 5, 12])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_every_example_once_in_order(count: int, batch_size: int) -> None:
    batches = evaluation_batches.__wrapped__(Numbers(count), batch_size)
    logits = all_logits(forward, {"scale": 2.0}, batches, make_mesh())
    np.testing.assert_array_equal(logits[:, 0], 2.0 * np.arange(count))
