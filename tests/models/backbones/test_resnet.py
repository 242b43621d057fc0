"""ResNet-50: v1 against keras.applications, layer by layer by name; v1.5 against the network written out."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.layers import TrainingPass

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

BLOCK_OUTPUTS = [name for name in RESNET50.end_points if name.endswith("_out")]
LAST = "conv5_block3_out"
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


def shapes(module: Backbone) -> Any:
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
    features, ours = jax.jit(Backbone(RESNET50, LAST).apply)(variables, x)

    for name in COMPARED:
        assert np.abs(theirs[name]).max() > 1e-2  # dead features would agree with anything
        assert relative(ours[name], theirs[name]) < 1e-4, name
    np.testing.assert_array_equal(features, ours[LAST])


def test_gradient_to_the_pixels_is_that_of_keras(reference, variables):
    x, cut = images(1, 33, 29), "conv2_block2_out"
    tapped = keras.Model(reference.inputs, reference.get_layer(cut).output)
    trainable = [v.value for v in tapped.trainable_variables]
    rest = [v.value for v in tapped.non_trainable_variables]
    needed = shapes(Backbone(RESNET50, cut))
    part = {name: {k: v for k, v in variables[name].items() if k in needed[name]} for name in needed}

    def output_of_keras(x: jax.Array) -> jax.Array:
        return tapped.stateless_call(trainable, rest, x, training=False)[0].sum()

    theirs = jax.jit(jax.grad(output_of_keras))(x)
    ours = jax.jit(jax.grad(lambda x: Backbone(RESNET50, cut).apply(part, x, training=TrainingPass())[0].sum()))(x)

    assert np.abs(ours).max() > 1e-3
    assert relative(ours, theirs) < 1e-4


def test_end_points_are_the_layers_of_keras(reference):
    theirs = {layer.name for layer in reference.layers[1:]} - {"conv1_pad", "pool1_pad"}
    assert set(RESNET50.end_points) == theirs
    assert len(RESNET50.end_points) == len(theirs)


def test_the_whole_network_has_the_arrays_of_keras(variables):
    assert jax.tree.map(lambda leaf: leaf.shape, shapes(Backbone(RESNET50, LAST))) == jax.tree.map(np.shape, variables)


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
    assert RESNET50.end_point(number) == name
    assert RESNET50.end_point(name) == name


@pytest.mark.parametrize("number", [-1, 0, 1, 174])
def test_a_number_without_an_output_is_refused(number):
    with pytest.raises(ValueError, match=f"layer number {number}: .*2 to 173"):
        RESNET50.end_point(number)


def random_variables(module: Backbone) -> dict[str, Any]:
    """Every array random, variances positive."""
    rng = np.random.default_rng(2)

    def draw(path: Any, leaf: Any) -> jax.Array:
        match path[-1].key:
            case "kernel":
                return jnp.asarray(rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:3])), leaf.shape), jnp.float32)
            case "scale" | "var":
                return jnp.asarray(rng.uniform(0.5, 1.2, leaf.shape), jnp.float32)
        return jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32)

    return jax.tree.map_with_path(draw, shapes(module))


def written_out(variables: Any, x: jax.Array) -> dict[str, jax.Array]:
    """Torchvision's ResNet-50: convolutions without bias, the stride of a stage on its first 3x3."""
    params, stats = variables["params"], variables["batch_stats"]

    def conv_norm(name: str, x: jax.Array, stride: int, padding: int) -> jax.Array:
        kernel = params[f"{name}_conv"]["kernel"].transpose(3, 2, 0, 1)
        x = jax.lax.conv(jnp.pad(x, [(0, 0), (0, 0), (padding,) * 2, (padding,) * 2]), kernel, (stride,) * 2, "VALID")
        scale, bias = params[f"{name}_bn"]["scale"], params[f"{name}_bn"]["bias"]
        mean, var = stats[f"{name}_bn"]["mean"], stats[f"{name}_bn"]["var"]
        mean, var, scale, bias = (v[:, None, None] for v in (mean, var, scale, bias))
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    points = {}
    x = jax.nn.relu(conv_norm("conv1", x.transpose(0, 3, 1, 2), 2, 3))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)])
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, blocks + 1):
            name, stride = f"conv{stage}_block{block}", 2 if block == 1 and stage > 2 else 1
            y = jax.nn.relu(conv_norm(f"{name}_1", x, 1, 0))
            y = jax.nn.relu(conv_norm(f"{name}_2", y, stride, 1))
            y = conv_norm(f"{name}_3", y, 1, 0)
            shortcut = conv_norm(f"{name}_0", x, stride, 0) if block == 1 else x
            x = jax.nn.relu(shortcut + y)
            points[f"{name}_out"] = x.transpose(0, 2, 3, 1)
    return points


@pytest.mark.parametrize("shape", [(1, 65, 49), (3, 50, 31)])
def test_v1_5_has_its_stride_on_the_3x3_and_no_biases(shape):
    module, x = Backbone(RESNET50_V1_5, LAST), images(*shape)
    variables = random_variables(module)
    assert not any("kernel" in arrays and "bias" in arrays for arrays in variables["params"].values())
    _, ours = jax.jit(module.apply)(variables, x)
    for name, theirs in jax.jit(written_out)(variables, x).items():
        assert np.abs(theirs).max() > 1e-2
        assert relative(ours[name], theirs) < 1e-4, name
