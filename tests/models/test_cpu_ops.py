"""Each equivalent that is there for XLA's CPU backend, against the plain operation, forward and backward."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export

from cervix_jax.models import cpu_ops
from cervix_jax.models.cpu_ops import channel_matmul, dot_general, pointwise_conv, relu, spatial_conv


def random(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(ours, theirs) -> None:
    def compare(a, b) -> None:  # numbers that cancel are as exact as those that they are the difference of
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(b).max())))

    jax.tree.map(compare, ours, theirs)


@partial(jax.jit, static_argnums=0)
def cube(module: nn.Module, variables, x: jax.Array):
    """A scalar of a module's output, and its gradients."""
    return jax.value_and_grad(lambda variables, x: jnp.sum(module.apply(variables, x) ** 3), (0, 1))(variables, x)


@pytest.mark.parametrize(
    ("rows", "channels", "features"),
    [((4,), 3, 5), ((1, 1), 1, 1), ((2, 7), 9, 4), ((2, 3, 5), 6, 1), ((3, 1, 8), 1, 9)],
)
def test_a_channel_matmul_is_a_matmul(rows, channels, features) -> None:
    x, kernel, cotangent = random(0, *rows, channels), random(1, channels, features), random(2, *rows, features)

    @partial(jax.jit, static_argnums=0)
    def with_gradients(f, x, kernel):
        output, vjp = jax.vjp(f, x, kernel)
        return output, vjp(cotangent)

    close(*(with_gradients(f, x, kernel) for f in (channel_matmul, jnp.matmul)))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (1, 1)])
def test_a_pointwise_convolution_is_that_of_flax(size, stride) -> None:
    x = random(0, 2, *size, 5)
    plain = nn.Conv(4, (1, 1), (stride, stride), padding=((0, 0), (0, 0)))
    ours = plain.copy(conv_general_dilated=pointwise_conv)
    variables = plain.init(jax.random.key(0), x)
    close(cube(ours, variables, x), cube(plain, variables, x))


@pytest.mark.parametrize("channels", [5, 1])  # more numbers in a row of the window than features, and fewer
@pytest.mark.parametrize("size", [(7, 5), (9, 10)])  # all remainders of the strides
@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [
        ((3, 3), 1, ((1, 1), (1, 1))),
        ((7, 7), 2, ((3, 3), (3, 3))),
        ((3, 3), 2, ((1, 1), (1, 1))),
        ((3, 3), 2, ((0, 0), (0, 0))),
        ((1, 5), 1, ((0, 0), (2, 2))),
        ((5, 1), 3, ((2, 2), (0, 0))),
        ((2, 2), 3, ((0, 1), (1, 0))),
    ],
)
def test_a_convolution_on_large_maps_is_that_of_flax(monkeypatch, size, channels, window, stride, padding) -> None:
    monkeypatch.setattr(cpu_ops, "MUCH_WORK", 0)  # all is
    x = random(0, 2, *size, channels)
    plain = nn.Conv(4, window, (stride, stride), padding=padding)
    ours = plain.copy(conv_general_dilated=spatial_conv)
    variables = plain.init(jax.random.key(0), x)
    close(cube(ours, variables, x), cube(plain, variables, x))


@pytest.mark.parametrize(
    "options",
    [{"feature_group_count": 2}, {"kernel_dilation": 2}, {"input_dilation": 2}, {"padding": ((1, 1), (1, 1))}],
    ids=lambda options: next(iter(options)),
)
def test_what_is_not_computed_is_refused(options) -> None:
    plain = {"padding": ((0, 0), (0, 0))} | options
    for window, conv in (((1, 1), pointwise_conv), ((3, 3), spatial_conv)):
        if conv is pointwise_conv or "padding" not in options:
            with pytest.raises(NotImplementedError):
                nn.Conv(4, window, conv_general_dilated=conv, **plain).init(jax.random.key(0), random(0, 1, 6, 6, 4))


def test_sums_over_images_are_not_in_half_precision(monkeypatch) -> None:
    monkeypatch.setattr(cpu_ops, "MUCH_WORK", 0)
    x, kernel = random(0, 64, 6, 6, 3), random(1, 3, 3, 3, 4)

    def gradient(dtype):
        def loss(kernel):
            return jnp.sum(spatial_conv(x.astype(dtype), kernel, (1, 1), ((1, 1), (1, 1))).astype(jnp.float32))

        return np.asarray(jax.grad(loss)(kernel.astype(dtype)), np.float32)

    exact = gradient(jnp.float32)
    assert np.abs(gradient(jnp.bfloat16) - exact).max() < 0.006 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("platform", "features", "loops"), [("cpu", 48, 1), ("cpu", 32, 0), ("tpu", 48, 0), ("cuda", 48, 0)]
)
def test_only_large_maps_of_many_features_and_only_on_cpu_are_computed_by_image(platform, features, loops) -> None:
    def loss(kernel, x):
        return jnp.sum(spatial_conv(x, kernel, (1, 1), ((1, 1), (1, 1))) ** 2)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 3, 4, features), (2, 60, 40, 4))]
    lowered = export.export(jax.jit(jax.grad(loss)), platforms=[platform])(*shapes)
    assert lowered.mlir_module().count("stablehlo.while") == loops


def test_a_dense_layer_is_that_of_flax() -> None:
    x, plain = random(0, 2, 3, 7, 5), nn.Dense(4)
    variables = plain.init(jax.random.key(0), x)
    ours = plain.copy(dot_general=dot_general)
    close(cube(ours, variables, x), cube(plain, variables, x))


def test_relu_is_that_of_flax() -> None:
    x = jnp.array([-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(relu(x), nn.relu(x))
    gradients = [jax.vmap(jax.grad(lambda x, f=f: f(x) ** 2 + f(x)))(x) for f in (relu, nn.relu)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize("f", [lambda kernel, x: channel_matmul(x, kernel), lambda kernel, x: relu(x @ kernel)])
def test_other_platforms_have_the_plain_operation(platform, f) -> None:
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(f(kernel, x) ** 2)))
    lowered = export.export(gradient, platforms=[platform])(random(0, 5, 4), random(1, 6, 5))
    assert ("stablehlo.optimization_barrier" in lowered.mlir_module()) == (platform == "cpu")
