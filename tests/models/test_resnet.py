"""ResNet-50 against keras.applications, layer by layer by name, and what `cut` and `frozen` promise."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from cervix_jax.models.resnet import END_POINTS, ResNet50, end_point

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

BLOCK_OUTPUTS = [name for name in END_POINTS if name.endswith("_out")]
COMPARED = ["conv1_bn", "conv2_block1_1_conv", "conv2_block1_3_conv", "conv2_block2_1_relu", *BLOCK_OUTPUTS]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    """Keras' network with every array random: a mix-up of gamma, beta, mean, var or a bias would show."""
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            scale = np.sqrt(2 / np.prod(kernel.shape[:3]))
            layer.set_weights([rng.normal(0, scale, kernel.shape), rng.normal(0, 0.2, bias.shape)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape
            layer.set_weights(
                [
                    rng.uniform(0.5, 1, n),
                    rng.normal(0, 0.2, n),
                    rng.normal(0, 0.3, n),
                    rng.uniform(0.6, 1.5, n),
                ]
            )
    return model


@pytest.fixture(scope="module")
def variables(reference: keras.Model) -> dict[str, Any]:
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for layer in reference.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            tree["params"][layer.name] = {"kernel": kernel, "bias": bias}
        elif isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, var = layer.get_weights()
            tree["params"][layer.name] = {"scale": gamma, "bias": beta}
            tree["batch_stats"][layer.name] = {"mean": mean, "var": var}
    return tree


def images(*shape: int, seed: int = 1) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(0, 50, (*shape, 3)), jnp.float32)


def shapes(module: ResNet50) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def relative(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("shape", [(1, 65, 49), (3, 50, 31)])
def test_every_compared_layer_is_that_of_keras(reference, variables, shape):
    x = images(*shape)
    tapped = keras.Model(reference.inputs, [reference.get_layer(name).output for name in COMPARED])
    theirs = dict(zip(COMPARED, tapped.predict(x, verbose=0), strict=True))
    features, ours = jax.jit(ResNet50().apply)(variables, x)

    for name in COMPARED:
        assert np.abs(theirs[name]).max() > 1e-2  # dead features would agree with anything
        assert relative(ours[name], theirs[name]) < 1e-4, name
    np.testing.assert_array_equal(features, ours["conv5_block3_out"])


def test_gradient_to_the_pixels_is_that_of_keras(reference, variables):
    x, cut = images(1, 33, 29), "conv2_block2_out"
    tapped = keras.Model(reference.inputs, reference.get_layer(cut).output)
    trainable = [v.value for v in tapped.trainable_variables]
    rest = [v.value for v in tapped.non_trainable_variables]
    needed = shapes(ResNet50(cut))
    part = {name: {k: v for k, v in variables[name].items() if k in needed[name]} for name in needed}

    def output_of_keras(x: jax.Array) -> jax.Array:
        return tapped.stateless_call(trainable, rest, x, training=False)[0].sum()

    theirs = jax.jit(jax.grad(output_of_keras))(x)
    ours = jax.jit(jax.grad(lambda x: ResNet50(cut).apply(part, x, train=True)[0].sum()))(x)

    assert np.abs(ours).max() > 1e-3
    assert relative(ours, theirs) < 1e-4


def test_end_points_are_the_layers_of_keras(reference):
    theirs = {layer.name for layer in reference.layers[1:]} - {"conv1_pad", "pool1_pad"}
    assert set(END_POINTS) == theirs
    assert len(END_POINTS) == len(theirs)


def test_the_whole_network_has_the_arrays_of_keras(variables):
    assert jax.tree.map(lambda leaf: leaf.shape, shapes(ResNet50())) == jax.tree.map(np.shape, variables)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (2, "conv1_conv"),
        (3, "conv1_bn"),
        (5, "pool1_pool"),
        (6, "conv2_block1_1_conv"),
        (12, "conv2_block1_3_conv"),
        (13, "conv2_block1_0_conv"),
        (17, "conv2_block1_out"),
        (20, "conv2_block2_1_relu"),
        (173, "conv5_block3_out"),
    ],
)
def test_layer_numbers_of_2017(number, name):
    assert end_point(number) == name
    assert end_point(name) == name


@pytest.mark.parametrize("number", [-1, 0, 1, 174])
def test_a_number_without_an_output_is_refused(number):
    with pytest.raises(ValueError, match=f"layer number {number}: .*2 to 173"):
        end_point(number)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'conv2_block1_3_conv'"):
        end_point("conv2_block1_3conv")
    with pytest.raises(ValueError, match="did you mean 'conv1_bn'"):
        ResNet50("conv1_bnn").init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize("cut", ["conv1_conv", 3, 12, "conv2_block1_add", 20, "conv3_block4_out"])
def test_layers_after_the_cut_are_never_built(cut):
    module = ResNet50(cut)
    kept = END_POINTS[: END_POINTS.index(end_point(cut)) + 1]
    tree = shapes(module)
    assert set(tree["params"]) == {name for name in kept if name.endswith(("_conv", "_bn"))}
    assert set(tree.get("batch_stats", {})) == {name for name in kept if name.endswith("_bn")}

    features, points = jax.eval_shape(module.apply, tree, jnp.zeros((2, 32, 48, 3)))
    assert set(points) == set(kept)
    assert features == points[kept[-1]]


def test_frozen_means_stored_statistics_in_training_too(variables):
    module, x = ResNet50("conv1_bn"), images(2, 17, 23)
    (trained, _), state = module.apply(variables, x, train=True, mutable=["batch_stats"])
    stored, points = module.apply(variables, x)

    np.testing.assert_array_equal(trained, stored)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])
    stats, params = variables["batch_stats"]["conv1_bn"], variables["params"]["conv1_bn"]
    expected = (np.asarray(points["conv1_conv"]) - stats["mean"]) / np.sqrt(stats["var"] + 1.001e-5)
    np.testing.assert_allclose(stored, expected * params["scale"] + params["bias"], rtol=1e-4, atol=1e-4)


def test_thawed_means_the_batch_and_running_statistics(variables):
    module, x = ResNet50("conv1_bn", frozen=False), images(2, 17, 23)
    (features, points), state = module.apply(variables, x, train=True, mutable=["batch_stats"])
    conv = np.asarray(points["conv1_conv"], np.float64)
    mean, var = conv.mean((0, 1, 2)), conv.var((0, 1, 2))

    stored, new = variables["batch_stats"]["conv1_bn"], state["batch_stats"]["conv1_bn"]
    np.testing.assert_allclose(new["mean"], 0.9 * stored["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(new["var"], 0.9 * stored["var"] + 0.1 * var, rtol=1e-4)
    params = variables["params"]["conv1_bn"]
    np.testing.assert_allclose(np.mean(features, (0, 1, 2)), params["bias"], atol=1e-4)
    assert not np.allclose(features, module.apply(variables, x)[0], rtol=1e-2)


def test_computing_in_bfloat16_keeps_the_parameters_float32():
    module = ResNet50("conv2_block1_out", dtype=jnp.bfloat16)
    tree = shapes(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    features, _ = jax.eval_shape(module.apply, tree, jnp.zeros((1, 32, 32, 3)))
    assert features.dtype == jnp.bfloat16
