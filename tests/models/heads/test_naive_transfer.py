"""The naive transfer head has two convolutions at the map's size, and two affine layers."""

import jax
import jax.numpy as jnp

from cervix_jax.models.heads.naive_transfer import NaiveTransferHead


def test_its_layers_and_end_points() -> None:
    init = NaiveTransferHead(num_classes=2).init_with_output
    (logits, points), variables = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 10, 8, 64)))
    assert set(variables["params"]) == {"conv1", "conv2", "affine1", "affine2"}
    assert points["conv2"].shape == (1, 10, 8, 256)
    assert points["features"].shape == (1, 256)
    assert logits.shape == (1, 2)
