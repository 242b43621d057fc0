"""Layers written for XLA's sake, against the plain operations; batch norm and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cervix_jax.models import layers

SIZES = [(6, 8), (7, 8), (6, 5), (7, 5), (1, 1)]


def maps(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape)), shape)


@pytest.mark.parametrize("size", SIZES)
def test_patch_convolution_is_a_strided_convolution(size: tuple[int, int]) -> None:
    x, cotangent = maps(2, *size, 3), maps(2, -(-size[0] // 2), -(-size[1] // 2), 4)
    module = layers.PatchConv(4)
    params = module.init(jax.random.key(0), x)
    plain = nn.Conv(4, (2, 2), (2, 2), padding=((0, size[0] % 2), (0, size[1] % 2)), use_bias=False)

    def patches(params, x):
        return jnp.sum(module.apply(params, x) * cotangent)

    def convolution(params, x):
        kernel = params["params"]["conv"]["kernel"].reshape(2, 2, 3, 4)
        return jnp.sum(plain.apply({"params": {"kernel": kernel}}, x) * cotangent)

    ours, theirs = (jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, x) for f in (patches, convolution))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_max_pooling_of_features_is_that_of_flax(size: tuple[int, int]) -> None:
    x = jnp.abs(maps(2, *size, 3))
    np.testing.assert_array_equal(layers.max_pool_2x2(x), nn.max_pool(x, (2, 2), (2, 2), padding="SAME"))


@pytest.mark.parametrize("size", SIZES)
def test_average_pooling_is_that_of_flax(size: tuple[int, int]) -> None:
    x = maps(2, *size, 3)
    expected = nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)))
    np.testing.assert_allclose(layers.average_pool_3x3(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mean", "steps"), [(100.0, 1), (1e4, 150)])
def test_batch_norm_keeps_precision_where_the_mean_is_large(mean: float, steps: int) -> None:
    """The mean of squares less the square of the mean would lose all digits in float32 at 1e4 times the spread.

    Here it is the spread about the running mean that is squared, which follows the mean of the batches.
    """
    x = mean + maps(8, 16, 16, 2)
    norm, training = layers.BatchNorm(), layers.TrainingPass()
    variables = norm.init(jax.random.key(0), x, training)
    step = jax.jit(lambda variables: norm.apply(variables, x, training, mutable=["batch_stats"]))
    for _ in range(steps):
        y, changed = step(variables)
        variables = variables | changed
    np.testing.assert_allclose(np.std(y, axis=(0, 1, 2)), 1, atol=0.01)
    np.testing.assert_allclose(np.mean(y, axis=(0, 1, 2)), 0, atol=0.01)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("use_scale", [True, False])
def test_batch_norm_is_that_of_flax(train: bool, use_scale: bool) -> None:
    """Output, running statistics and gradients."""
    x, cotangent = 3 + 2 * maps(4, 5, 6, 7), maps(4, 5, 7, 6).transpose(0, 1, 3, 2)
    norm = layers.BatchNorm(use_scale=use_scale)
    flax = nn.BatchNorm(
        not train, momentum=0.9, epsilon=1e-3, use_fast_variance=False, use_scale=use_scale, name="flax"
    )
    variables = jax.tree.map(lambda leaf: leaf + 0.3, flax.init(jax.random.key(0), x))

    def our_sum(params, x):
        training = layers.TrainingPass() if train else None
        y, state = norm.apply(variables | {"params": params}, x, training, mutable=["batch_stats"])
        return jnp.sum(y * cotangent), (y, state)

    def flax_sum(params, x):
        y, state = flax.apply(variables | {"params": params}, x, mutable=["batch_stats"])
        return jnp.sum(y * cotangent), (y, state)

    gradients = [
        jax.jit(jax.grad(f, argnums=(0, 1), has_aux=True))(variables["params"], x) for f in (our_sum, flax_sum)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *gradients)


def test_batch_norm_of_groups_is_that_of_each_group() -> None:
    """Outputs and gradients are those of the parts by themselves; running statistics follow the mean of theirs."""
    x, cotangent = maps(6, 5, 4, 3), maps(6, 5, 3, 4).transpose(0, 1, 3, 2)
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(0), x, None)

    def apply(x, cotangent, groups):
        training = layers.TrainingPass(norm_groups=groups)

        def loss(x):
            y, state = norm.apply(variables, x, training, mutable=["batch_stats"])
            return jnp.sum(y * cotangent), (y, state)

        return jax.grad(loss, has_aux=True)(x)

    gradient, (y, state) = apply(x, cotangent, 3)
    parts = [apply(x[i : i + 2], cotangent[i : i + 2], 1) for i in (0, 2, 4)]
    np.testing.assert_allclose(y, np.concatenate([y for _, (y, _) in parts]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate([gradient for gradient, _ in parts]), rtol=1e-4, atol=1e-5)
    means = jax.tree.map(lambda *of_parts: np.mean(of_parts, axis=0), *(state for _, (_, state) in parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, means)


def test_batch_norm_does_not_see_padded_rows() -> None:
    x, rows = maps(6, 5, 4, 3), np.array([True, True, False, True, False, True])
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(0), x, None)

    @jax.jit
    def apply(x, mask):
        return norm.apply(variables, x, layers.TrainingPass(mask=mask), mutable=["batch_stats"])

    (y, state), (expected, expected_state) = apply(x, jnp.asarray(rows)), apply(x[rows], None)
    np.testing.assert_allclose(y[rows], expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, expected_state)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(apply(x, jnp.asarray(rows))[0][rows] ** 3)))(x)
    assert not np.any(gradient[~rows])


def test_dropout_drops_features_at_its_rate_and_keeps_the_mean() -> None:
    x = jnp.ones((64, 500))
    dropped = layers.dropout(x, 0.4, layers.TrainingPass(jax.random.split(jax.random.key(0), 64)))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.6)}
    np.testing.assert_allclose(np.mean(dropped == 0), 0.4, atol=0.01)
    np.testing.assert_allclose(dropped.mean(), 1, atol=0.02)


def test_a_dropout_mask_belongs_to_its_example() -> None:
    x, keys = jnp.ones((6, 50)), jax.random.split(jax.random.key(0), 6)
    whole = layers.dropout(x, 0.5, layers.TrainingPass(keys))
    np.testing.assert_array_equal(whole[4:], layers.dropout(x[4:], 0.5, layers.TrainingPass(keys[4:])))
    assert not np.array_equal(whole[0], whole[1])


def test_without_keys_nothing_is_dropped() -> None:
    x = maps(3, 5)
    for training in (None, layers.TrainingPass()):
        np.testing.assert_array_equal(layers.dropout(x, 0.9, training), x)


def test_drop_path_drops_residuals_of_whole_examples_at_its_rate_and_keeps_the_mean() -> None:
    x, training = jnp.ones((4000, 1, 2, 3)), layers.TrainingPass(jax.random.split(jax.random.key(0), 4000))
    first, second = (np.asarray(layers.drop_path(x, 0.2, training, block)) for block in (1, 2))
    np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1, :1, :1], first.shape))
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.8)}
    np.testing.assert_allclose(first.mean(), 1, atol=0.02)
    both = (first[:, 0, 0, 0] == 0) & (second[:, 0, 0, 0] == 0)
    np.testing.assert_allclose(both.mean(), 0.04, atol=0.01)  # each block draws for itself
    np.testing.assert_array_equal(layers.drop_path(x, 0.2, None, 1), x)
