"""Inception-v3 against keras.applications, layer by layer."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import re
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

MIXED = [name for name in INCEPTION_V3.end_points if name.startswith("mixed")]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    """Keras' network with every array random."""
    keras.utils.clear_session()  # its names count the layers of the session
    model = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            layer.set_weights([rng.normal(0, np.sqrt(2 / np.prod(kernel.shape[:3])), kernel.shape)])
        elif isinstance(layer, keras.layers.BatchNormalization):
            n = layer.beta.shape
            layer.set_weights([rng.normal(0, 0.2, n), rng.normal(0, 0.3, n), rng.uniform(0.6, 1.5, n)])
    return model


def our_name(name: str) -> str:
    """Keras counts layers without a name from 0, which it does not write, and its published weights from 1."""
    if name.startswith("mixed"):
        return name
    prefix, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name).groups()
    return f"{prefix}_{int(number or 0) + 1}"


def test_layers_are_those_of_keras_in_its_order(reference) -> None:
    assert INCEPTION_V3.end_points == tuple(our_name(layer.name) for layer in reference.layers[1:])
    assert INCEPTION_V3.end_point(3) == "activation_1"  # the report's '3 layers'
    assert INCEPTION_V3.end_point("40") == "mixed0"
    assert INCEPTION_V3.end_point(310) == "mixed10"


@pytest.mark.parametrize("shape", [(1, 91, 77), (3, 80, 97)])
def test_every_block_is_that_of_keras(reference, shape) -> None:
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for layer in reference.layers:
        name = our_name(layer.name)
        if isinstance(layer, keras.layers.Conv2D):
            variables["params"][name] = {"kernel": layer.get_weights()[0]}
        elif isinstance(layer, keras.layers.BatchNormalization):
            beta, mean, var = layer.get_weights()
            variables["params"][name] = {"bias": beta}
            variables["batch_stats"][name] = {"mean": mean, "var": var}
    module, x = Backbone(INCEPTION_V3, "mixed10"), jnp.asarray(np.random.default_rng(1).normal(0, 1, (*shape, 3)), "f4")
    needed = jax.eval_shape(module.init, jax.random.key(0), x)
    assert jax.tree.map(lambda leaf: leaf.shape, needed) == jax.tree.map(np.shape, variables)

    compared = ["activation_1", *MIXED]
    layers = {our_name(layer.name): layer for layer in reference.layers}
    tapped = keras.Model(reference.inputs, [layers[name].output for name in compared])
    features, ours = jax.jit(module.apply)(variables, x)
    for name, theirs in zip(compared, tapped.predict(x, verbose=0), strict=True):
        assert ours[name].shape == theirs.shape
        assert np.abs(theirs).max() > 1e-2
        assert np.abs(ours[name] - theirs).max() < 1e-4 * np.abs(theirs).max(), name
    np.testing.assert_array_equal(features, ours["mixed10"])
