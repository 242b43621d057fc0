"""The Inception-residual head and the vanilla CNN: what they compute, and that all of them learns."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.ad_checkpoint import print_saved_residuals

from cervix_jax.models.heads.inception_residual import InceptionResidualBlock, InceptionResidualHead, Reduction
from cervix_jax.models.heads.naive_transfer import NaiveTransferHead
from cervix_jax.models.heads.vanilla_cnn import VanillaCNN
from cervix_jax.models.layers import Bias, TrainingPass
from cervix_jax.training.state import count_parameters

HEADS = {
    "inception_residual": InceptionResidualHead(stem=True, widths=(8, 16), blocks=(1, 1)),
    "naive_transfer": NaiveTransferHead(convolutions=(8, 8), affine=16),
    "vanilla_cnn": VanillaCNN(widths=(4, 4, 8, 8, 8), affine=(16, 8)),
}


def randomised(variables, seed=0):
    """Every array random and positive where a variance must be, so that no part can hide behind a zero or a one."""
    leaves, structure = jax.tree.flatten_with_path(variables)
    keys = jax.random.split(jax.random.key(seed), len(leaves))

    def draw(path, leaf, key):
        if path[-1].key in ("var", "scale"):
            return jax.random.uniform(key, leaf.shape, minval=0.5, maxval=1.5)
        return leaf + 0.1 * jax.random.normal(key, leaf.shape)

    return structure.unflatten([draw(path, leaf, key) for (path, leaf), key in zip(leaves, keys, strict=True)])


def conv_norm_relu(variables, name, x, kernel):
    """Plain convolution, batch norm on stored statistics and ReLU, from the arrays of the layer `name`."""
    size = kernel.shape[0] // 2
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), [(size, size)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    norm, stats = variables["params"][name]["norm"], variables["batch_stats"][name]["norm"]
    return nn.relu((y - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-3) * norm["scale"] + norm["bias"])


def test_a_block_is_four_branches_projected_and_added() -> None:
    """Against the block written out: one convolution a branch, where the module fuses the four 1x1."""
    x = nn.relu(jax.random.normal(jax.random.key(1), (2, 5, 7, 16)))
    block = InceptionResidualBlock()
    variables = randomised(jax.jit(partial(block.init, training=None))(jax.random.key(0), x))
    params = variables["params"]
    first = conv_norm_relu(variables, "branches", x, params["branches"]["conv"]["kernel"][None, None])
    one, three, five, pool = (first[..., 4 * i : 4 * i + 4] for i in range(4))
    three = conv_norm_relu(variables, "three", three, params["three"]["conv"]["kernel"])
    for name in ("five_a", "five_b"):
        five = conv_norm_relu(variables, name, five, params[name]["conv"]["kernel"])
    pool = nn.avg_pool(pool, (3, 3), padding=((1, 1), (1, 1)))
    mixed = jnp.concatenate([one, three, five, pool], axis=-1)
    expected = nn.relu(x + mixed @ params["project"]["kernel"] + params["project"]["bias"])
    np.testing.assert_allclose(block.apply(variables, x, training=None), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "pooled"), [(4, 4), (8, 8), (12, 8), (64, 8)])
def test_a_reduction_passes_or_projects_the_pooled_channels(channels: int, pooled: int) -> None:
    x = nn.relu(jax.random.normal(jax.random.key(1), (2, 6, 8, channels)))
    module = Reduction(16)
    variables = jax.jit(partial(module.init, training=None))(jax.random.key(0), x)  # batch norm is x / sqrt(1.001) here
    y = module.apply(variables, x, training=None)
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


def test_the_vanilla_network_has_14_convolutions_and_3_affine_layers() -> None:
    (_, points), variables = jax.eval_shape(VanillaCNN().init_with_output, jax.random.key(0), jnp.zeros((1, 50, 48, 3)))
    kernels = [leaf for path, leaf in jax.tree.leaves_with_path(variables["params"]) if path[-1].key == "kernel"]
    assert sum(kernel.ndim == 4 for kernel in kernels) == 14
    assert sum(kernel.ndim == 2 for kernel in kernels) == 3
    assert [points[f"group{n}"].shape[1:] for n in (1, 5)] == [(50, 48, 16), (4, 3, 256)]


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_every_parameter_gets_a_gradient_and_every_statistic_moves(head: nn.Module) -> None:
    x = jax.random.normal(jax.random.key(1), (4, 32, 24, 3))
    variables = jax.jit(head.init)(jax.random.key(0), x)

    @partial(jax.grad, has_aux=True)
    def loss(params):
        variables_now = variables | {"params": params}
        (logits, _), updates = head.apply(variables_now, x, training=TrainingPass(), mutable=["batch_stats"])
        return jnp.sum(jax.nn.log_softmax(logits)[:, 0]), updates["batch_stats"]

    gradient, stats = jax.jit(loss)(variables["params"])
    dead = [jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(gradient) if not jnp.any(leaf)]
    assert dead == []
    moved = jax.tree.map(lambda old, new: bool(jnp.any(old != new)), variables["batch_stats"], stats)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_without_batch_norm_an_example_does_not_feel_the_others(head: nn.Module) -> None:
    head = head.copy(norm=Bias)
    x = jax.random.normal(jax.random.key(1), (4, 32, 24, 3))
    variables = jax.jit(head.init)(jax.random.key(0), x)
    assert set(variables) == {"params"}
    first_logits = jax.jit(
        lambda x: head.apply(variables, x, training=TrainingPass(), mutable=["batch_stats"])[0][0][0]
    )
    np.testing.assert_allclose(first_logits(x), first_logits(x.at[1:].add(1.0)), rtol=1e-4, atol=1e-5)


def test_rematerialised_blocks_keep_less_and_compute_the_same(capsys) -> None:
    x = jax.random.normal(jax.random.key(1), (2, 24, 16, 3))
    kept, gradients = [], []
    for remat in (False, True):
        head = InceptionResidualHead(stem=True, widths=(8, 8), blocks=(2, 2), remat=remat)
        variables = jax.jit(head.init)(jax.random.key(0), x)

        def loss(params, head=head, variables=variables):
            (logits, _), _ = head.apply(
                variables | {"params": params}, x, training=TrainingPass(), mutable=["batch_stats"]
            )
            return jnp.square(logits).sum()

        print_saved_residuals(loss, variables["params"])
        shapes = re.findall(r"^f32\[([\d,]+)\] (?!from the argument)", capsys.readouterr().out, flags=re.MULTILINE)
        kept.append(sum(np.prod([int(n) for n in shape.split(",")]) for shape in shapes))
        gradients.append(jax.jit(jax.grad(loss))(variables["params"]))
    assert kept[1] < 0.6 * kept[0]
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_dropout_acts_only_with_keys(head: nn.Module) -> None:
    x = jax.random.normal(jax.random.key(1), (4, 32, 24, 3))
    variables = jax.jit(head.init)(jax.random.key(0), x)
    keys = jax.random.split(jax.random.key(2), 4)

    @partial(jax.jit, static_argnums=0)
    def apply(rate, keys):
        module, training = head.copy(dropout_rate=rate), TrainingPass(dropout_keys=keys)
        return module.apply(variables, x, training=training, mutable=["batch_stats"])[0][0]

    plain = apply(0.4, None)
    assert not np.allclose(plain, apply(0.4, keys))
    np.testing.assert_allclose(plain, apply(0.0, keys), rtol=1e-5)


def test_defaults_have_the_size_the_design_was_measured_with() -> None:
    """About three million parameters on the 64 channels of conv1 (a PyTorch network of the kind has 3.0 million)."""
    shapes = jax.eval_shape(InceptionResidualHead().init, jax.random.key(0), jnp.zeros((1, 160, 120, 64)))
    assert 2.5e6 < count_parameters(shapes["params"]) < 3.5e6
