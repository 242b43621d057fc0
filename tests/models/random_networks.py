"""Networks of random numbers that tests share: ours, Keras', their weights files, and where the real files are."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import functools
import re
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src.initializers.random_initializers import VarianceScaling

from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.spec import Architecture

SHARED = Path(os.environ.get("CERVIX_JAX_SHARED", Path(__file__).parents[3] / "shared"))
REAL = {
    "resnet50": SHARED / "weights" / "keras_resnet50_notop_conv1_to_conv3.h5",
    "resnet50_v1_5": SHARED / "weights" / "torchvision_resnet50_v1_conv1_to_layer2.safetensors",
}
PHOTOGRAPHS = SHARED / "data" / "kaggle" / "train"
KERAS_APPLICATIONS = {"resnet50": "ResNet50", "inception_v3": "InceptionV3"}


def shapes(architecture: Architecture, cut: str | int) -> Any:
    """Shapes of the variables of a backbone."""
    return jax.eval_shape(Backbone(architecture, cut).init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))


def template(name: str, cut: str | int) -> Any:
    return shapes(BACKBONES[name], cut)


def random_tree(wanted: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), wanted)


def random_variables(wanted: Any) -> Any:
    """Every array random, variances and scales positive: no layer hides behind a zero or a one. Compiles nothing."""
    rng = np.random.default_rng(2)

    def draw(path: Any, leaf: Any) -> jax.Array:
        match path[-1].key:
            case "kernel":
                values = rng.standard_normal(leaf.shape, np.float32) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
            case "scale" | "var":
                values = rng.uniform(0.5, 1.2, leaf.shape)
            case _:
                values = rng.normal(0, 0.2, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree.map_with_path(draw, wanted)


def normal(*shape: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(0, scale, shape), jnp.float32)


def relative_difference(ours: Any, theirs: Any) -> float:
    """Largest difference, as a fraction of the largest value; dead features would agree with anything."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 1e-2
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@functools.cache
def keras_network(name: str) -> keras.Model:
    """Keras' network with every array random: a mix-up of gamma, beta, mean, variance or a bias would show."""
    keras.utils.clear_session()  # its names count the layers of the session
    with pytest.MonkeyPatch.context() as patch:  # Keras' own random numbers take ten seconds
        patch.setattr(VarianceScaling, "__call__", lambda self, shape, dtype=None: np.zeros(shape, "float32"))
        application = getattr(keras.applications, KERAS_APPLICATIONS[name])
        model = application(include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    draw = {
        "kernel": lambda shape: rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[:3])),
        "bias": lambda shape: rng.normal(0, 0.2, shape),
        "gamma": lambda shape: rng.uniform(0.5, 1, shape),
        "beta": lambda shape: rng.normal(0, 0.2, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.6, 1.5, shape),
    }
    for variable in model.variables:
        variable.assign(draw[variable.name](variable.shape).astype(np.float32))
    return model


def keras_cut(name: str, cut: str) -> keras.Model:
    """Keras' network up to a layer, by our name of it."""
    whole = keras_network(name)
    layers = {our_name(layer.name): layer for layer in whole.layers}
    return keras.Model(whole.inputs, layers[cut].output)


def our_name(name: str) -> str:
    """Keras counts unnamed layers from 0, which it does not write, and its published weights from 1."""
    match = re.fullmatch(r"(conv2d|batch_normalization|activation|concatenate|\w+pooling2d)(?:_(\d+))?", name)
    return f"{match[1]}_{int(match[2] or 0) + 1}" if match else name


def keras_variables(model: keras.Model) -> Any:
    """The arrays of Keras' network as ours has them."""
    names = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
    tree: Any = {"params": {}, "batch_stats": {}}
    for layer in model.layers:
        for variable in layer.variables:
            collection = "batch_stats" if variable.name.startswith("moving") else "params"
            arrays = tree[collection].setdefault(our_name(layer.name), {})
            arrays[names.get(variable.name, variable.name)] = variable.numpy()
    return tree


def write_keras(path: Path, tree: Any) -> Path:
    """Writes the published layout by hand: /LAYER/LAYER/NAME:0."""
    with h5py.File(path, "w") as file:
        for layer, arrays in tree["params"].items():
            for name, value in arrays.items():
                keras_name = name if "kernel" in arrays else {"scale": "gamma", "bias": "beta"}[name]
                file[f"{layer}/{layer}/{keras_name}:0"] = value
        for layer, arrays in tree.get("batch_stats", {}).items():
            file[f"{layer}/{layer}/moving_mean:0"] = arrays["mean"]
            file[f"{layer}/{layer}/moving_variance:0"] = arrays["var"]
        file.create_group("conv1_pad")  # Keras writes a group for layers without weights, too
    return path
