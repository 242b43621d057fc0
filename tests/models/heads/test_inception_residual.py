"""The Inception-residual head: what its parts compute, their shapes and size."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.ad_checkpoint import print_saved_residuals
from random_networks import random_variables

from cervix_jax.models.heads.inception_residual import InceptionResidualBlock, InceptionResidualHead, Reduction
from cervix_jax.models.layers import TrainingPass, norm_layer


def conv_norm_relu(variables, name, x, kernel):
    """Plain convolution, batch norm by running statistics and ReLU, from the arrays of the layer `name`."""
    size = kernel.shape[0] // 2
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), [(size, size)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    norm, stats = variables["params"][name]["norm"], variables["batch_stats"][name]["norm"]
    return nn.relu((y - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-3) * norm["scale"] + norm["bias"])


def test_a_block_is_four_branches_projected_and_added() -> None:
    """Against the block written out: a convolution for each branch, where the module fuses the four 1x1."""
    x = nn.relu(jax.random.normal(jax.random.key(1), (2, 5, 7, 16)))
    block = InceptionResidualBlock()
    variables = random_variables(jax.eval_shape(partial(block.init, training=None), jax.random.key(0), x))
    params = variables["params"]

    @jax.jit
    def written_out(x):
        first = conv_norm_relu(variables, "branches", x, params["branches"]["conv"]["kernel"][None, None])
        x1, x3, x5, pool = (first[..., 4 * i : 4 * i + 4] for i in range(4))
        x3 = conv_norm_relu(variables, "three", x3, params["three"]["conv"]["kernel"])
        for name in ("five_a", "five_b"):
            x5 = conv_norm_relu(variables, name, x5, params[name]["conv"]["kernel"])
        pool = nn.avg_pool(pool, (3, 3), padding=((1, 1), (1, 1)))
        branches = jnp.concatenate([x1, x3, x5, pool], axis=-1)
        return nn.relu(x + branches @ params["project"]["kernel"] + params["project"]["bias"])

    output = jax.jit(partial(block.apply, training=None))(variables, x)
    np.testing.assert_allclose(output, written_out(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "pooled"), [(4, 4), (8, 8), (12, 8), (64, 8)])
def test_a_reduction_keeps_or_projects_the_pooled_channels(channels: int, pooled: int) -> None:
    x = nn.relu(jax.random.normal(jax.random.key(1), (2, 6, 8, channels)))
    module = Reduction(16)
    init = partial(module.init_with_output, training=None)  # batch norm is x / sqrt(1.001) here
    y, variables = jax.jit(init)(jax.random.key(0), x)
    assert y.shape == (2, 3, 4, 16)
    assert ("pooled" in variables["params"]) == (pooled != channels)
    assert variables["params"]["patches"]["conv"]["kernel"].shape == (4 * channels, 16 - pooled)
    if pooled == channels:
        expected = nn.max_pool(x, (2, 2), (2, 2)) / np.sqrt(1.001)
        np.testing.assert_allclose(y[..., :pooled], expected, rtol=1e-5)


def test_stages_halve_the_map_and_are_named() -> None:
    head = InceptionResidualHead(widths=(8, 16, 24), blocks=(1, 2, 1))
    x = jnp.zeros((2, 21, 16, 8))
    (logits, points), _ = jax.eval_shape(head.init_with_output, jax.random.key(0), x)
    assert logits.shape == (2, 3)
    assert {name: point.shape[1:] for name, point in points.items()} == {
        "stage1_block1": (11, 8, 8),
        "stage2_block1": (6, 4, 16),
        "stage2_block2": (6, 4, 16),
        "stage3_block1": (3, 2, 24),
        "features": (24,),
        "logits": (3,),
    }


def test_rematerialised_blocks_keep_less_and_compute_the_same(capsys) -> None:
    x = jax.random.normal(jax.random.key(1), (2, 16, 12, 3))
    heads = [InceptionResidualHead(widths=(8,), blocks=(2,), remat=remat) for remat in (False, True)]
    variables = random_variables(jax.eval_shape(heads[0].init, jax.random.key(0), x))
    kept, gradients = [], []
    for head in heads:

        def loss_fn(params, head=head):
            (logits, _), _ = head.apply(
                variables | {"params": params}, x, training=TrainingPass(), mutable=["batch_stats"]
            )
            return jnp.square(logits).sum()

        print_saved_residuals(loss_fn, variables["params"])
        shapes = re.findall(r"^f32\[([\d,]+)\] (?!from the argument)", capsys.readouterr().out, flags=re.MULTILINE)
        kept.append(sum(np.prod([int(n) for n in shape.split(",")]) for shape in shapes))
        gradients.append(jax.jit(jax.grad(loss_fn))(variables["params"]))
    assert kept[1] < 0.6 * kept[0]
    for plain, remat in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(remat, plain, rtol=1e-3, atol=1e-5)


def test_defaults_have_the_size_the_design_was_measured_with() -> None:
    """About three million parameters on the 64 channels of conv1 (a PyTorch network of the kind has 3.0 million)."""
    shapes = jax.eval_shape(InceptionResidualHead().init, jax.random.key(0), jnp.zeros((1, 160, 120, 64)))
    assert 2.5e6 < sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) < 3.5e6


def test_the_last_block_is_skipped_at_the_drop_path_rate_and_those_before_less() -> None:
    """A skipped block passes its input on; features of the input are positive, so its ReLU changes nothing."""
    x = nn.relu(jax.random.normal(jax.random.key(1), (1, 8, 8, 4)))
    head = InceptionResidualHead(widths=(8,), blocks=(2,), drop_path_rate=0.5, batch_norm=False)
    variables = random_variables(jax.eval_shape(head.init, jax.random.key(0), x))
    training = TrainingPass(jax.random.split(jax.random.key(2), 1000))
    x = jnp.broadcast_to(x, (1000, *x.shape[1:]))
    _, points = jax.jit(lambda v, x: head.apply(v, x, training=training))(variables, x)
    reduced = Reduction(8, norm_layer(False)).apply({"params": variables["params"]["stage1_reduce"]}, x, training=None)
    inputs = (reduced, points["stage1_block1"])
    for block, (rate, before) in enumerate(zip((0.25, 0.5), inputs, strict=True), start=1):
        skipped = jnp.isclose(points[f"stage1_block{block}"], before, atol=1e-6).all(axis=(1, 2, 3))
        np.testing.assert_allclose(skipped.mean(), rate, atol=0.05)
