"""Inception-v3 against keras.applications, layer by layer."""

import jax
import keras
import numpy as np
import pytest
from random_networks import keras_network, keras_variables, normal, our_name, relative_difference, shapes

from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

COMPARED = ["activation_1", *(name for name in INCEPTION_V3.end_points if name.startswith("mixed"))]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    return keras_network("inception_v3")


def test_layers_are_those_of_keras_in_its_order(reference) -> None:
    assert INCEPTION_V3.end_points == tuple(our_name(layer.name) for layer in reference.layers[1:])
    assert INCEPTION_V3.end_point(3) == "activation_1"  # the report's '3 layers'
    assert INCEPTION_V3.end_point("40") == "mixed0"
    assert INCEPTION_V3.end_point(310) == "mixed10"


@pytest.mark.parametrize("shape", [(3, 76, 81), pytest.param((1, 91, 77), marks=pytest.mark.slow)])
def test_every_block_is_that_of_keras(reference, shape) -> None:
    variables, x = keras_variables(reference), normal(*shape, 3)
    assert jax.tree.map(lambda leaf: leaf.shape, shapes(INCEPTION_V3, "mixed10")) == jax.tree.map(np.shape, variables)
    layers = {our_name(layer.name): layer for layer in reference.layers}
    tapped = keras.Model(reference.inputs, [layers[name].output for name in COMPARED])
    features, ours = jax.jit(Backbone(INCEPTION_V3, "mixed10").apply)(variables, x)
    for name, theirs in zip(COMPARED, tapped.predict(x, verbose=0), strict=True):
        assert relative_difference(ours[name], theirs) < 1e-4, name
    np.testing.assert_array_equal(features, ours["mixed10"])
