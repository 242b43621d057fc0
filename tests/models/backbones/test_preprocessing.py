"""Preprocessing is that of Keras, whose names it has."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax.numpy as jnp
import keras
import numpy as np
import pytest

from cervix_jax.models.backbones.preprocessing import PREPROCESSING, Preprocessing
from cervix_jax.models.classifier import ARCHITECTURES


@pytest.mark.parametrize("name", ["caffe", "torch", "tf"])
def test_preprocessing_is_that_of_keras(name):
    x = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    theirs = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format="channels_last", mode=name)
    np.testing.assert_allclose(PREPROCESSING[name](jnp.asarray(x)), theirs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(PREPROCESSING[name](jnp.asarray(x[0])), theirs[0], rtol=1e-4, atol=1e-4)


def test_identity_leaves_the_pixels_alone_and_names_are_keys():
    x = jnp.arange(24.0).reshape(2, 4, 3)
    np.testing.assert_array_equal(PREPROCESSING["identity"](x), x)
    assert all(key == value.name for key, value in PREPROCESSING.items())
    assert {architecture.preprocessing for architecture in ARCHITECTURES.values()} <= set(PREPROCESSING)
    with pytest.raises(ValueError, match="channel order"):
        Preprocessing("odd", "GBR", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
