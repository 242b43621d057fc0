"""Every image once, in order, whatever the batch size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax.training.forward import compute_outputs, image_batches
from cervix_jax.training.mesh import make_mesh


@jax.jit
def forward(variables: dict[str, float], images: jax.Array) -> jax.Array:
    return images[:, 0, 0, :].astype(jnp.float32) * variables["scale"]


class CountingImages:
    """Images of one pixel that hold their own number, and how often each was accessed."""

    def __init__(self, count: int):
        self.accesses = [0] * count

    def __len__(self) -> int:
        return len(self.accesses)

    def __getitem__(self, index: int) -> Any:
        self.accesses[index] += 1
        return np.full((1, 1, 3), index, np.uint8)


@pytest.mark.parametrize("count", [1, 5, 12])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_every_example_once_in_order(count: int, batch_size: int) -> None:
    images = CountingImages(count)
    logits = compute_outputs(forward, {"scale": 2.0}, image_batches(images, batch_size), make_mesh())
    np.testing.assert_array_equal(logits, 2.0 * np.arange(count)[:, None] * np.ones(3))
    assert images.accesses == [1] * count


def test_last_batch_is_padded_with_masked_zeros() -> None:
    images = np.ones((5, 2, 3, 3), np.uint8)
    batches = list(image_batches(images, 4))
    assert [batch["image"].shape for batch in batches] == [(4, 2, 3, 3)] * 2
    assert batches[1]["mask"].tolist() == [True, False, False, False]
    np.testing.assert_array_equal(batches[1]["image"].any(axis=(1, 2, 3)), batches[1]["mask"])


@pytest.mark.parametrize("process_count", [2, 3])
def test_processes_share_each_batch(process_count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: process_count)
    images, rows = [np.full((1, 1, 3), i, np.uint8) for i in range(7)], []
    for process in range(process_count):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        rows.append([(batch["image"][:, 0, 0, 0], batch["mask"]) for batch in image_batches(images, 6)])
    in_order = [value for batch in zip(*rows, strict=True) for image, mask in batch for value in image[mask]]
    assert in_order == list(range(7))
