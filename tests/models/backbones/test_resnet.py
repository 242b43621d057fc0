"""ResNet-50: v1 against keras.applications, layer by layer by name; v1.5 against the network written out."""

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from random_networks import (
    keras_cut,
    keras_network,
    keras_variables,
    normal,
    random_variables,
    relative_difference,
    shapes,
)

from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.layers import TrainingPass

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

BLOCK_OUTPUTS = [name for name in RESNET50.end_points if name.endswith("_out")]
LAST = "conv5_block3_out"
COMPARED = ["conv1_bn", "conv2_block1_1_conv", "conv2_block1_3_conv", "conv2_block2_1_relu", *BLOCK_OUTPUTS]
SHAPES = [(3, 50, 31), pytest.param((1, 65, 49), marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    return keras_network("resnet50")


@pytest.fixture(scope="module")
def variables(reference: keras.Model) -> Any:
    return keras_variables(reference)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_compared_layer_is_that_of_keras(reference, variables, shape):
    x = normal(*shape, 3, scale=50)
    tapped = keras.Model(reference.inputs, [reference.get_layer(name).output for name in COMPARED])
    features, ours = jax.jit(Backbone(RESNET50, LAST).apply)(variables, x)
    for name, theirs in zip(COMPARED, tapped.predict(x, verbose=0), strict=True):
        assert relative_difference(ours[name], theirs) < 1e-4, name
    np.testing.assert_array_equal(features, ours[LAST])


def test_gradient_to_the_pixels_is_that_of_keras(variables):
    x, cut = normal(1, 33, 29, 3, scale=50), "conv2_block2_out"
    tapped = keras_cut("resnet50", cut)
    trainable = [v.value for v in tapped.trainable_variables]
    rest = [v.value for v in tapped.non_trainable_variables]
    needed = {name: variables[name].keys() & layers for name, layers in shapes(RESNET50, cut).items()}
    cut_variables = {name: {layer: variables[name][layer] for layer in layers} for name, layers in needed.items()}

    def keras_sum(x: jax.Array) -> jax.Array:
        return tapped.stateless_call(trainable, rest, x, training=False)[0].sum()

    def our_sum(x: jax.Array) -> jax.Array:
        return Backbone(RESNET50, cut).apply(cut_variables, x, training=TrainingPass())[0].sum()

    assert relative_difference(jax.jit(jax.grad(our_sum))(x), jax.jit(jax.grad(keras_sum))(x)) < 1e-4


def test_end_points_are_the_layers_of_keras(reference):
    theirs = {layer.name for layer in reference.layers[1:]} - {"conv1_pad", "pool1_pad"}
    assert set(RESNET50.end_points) == theirs
    assert len(RESNET50.end_points) == len(theirs)


def test_the_whole_network_has_the_arrays_of_keras(variables):
    assert jax.tree.map(lambda leaf: leaf.shape, shapes(RESNET50, LAST)) == jax.tree.map(np.shape, variables)


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


@pytest.mark.parametrize("shape", SHAPES)
def test_v1_5_has_its_stride_on_the_3x3_and_no_biases(shape):
    x, variables = normal(*shape, 3, scale=50), random_variables(shapes(RESNET50_V1_5, LAST))
    assert not any("kernel" in arrays and "bias" in arrays for arrays in variables["params"].values())
    _, ours = jax.jit(Backbone(RESNET50_V1_5, LAST).apply)(variables, x)
    for name, theirs in jax.jit(written_out)(variables, x).items():
        assert relative_difference(ours[name], theirs) < 1e-4, name
