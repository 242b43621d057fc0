"""What the tests of weights share: shapes of a cut backbone, arrays to fill them, and where the real files are."""

import os
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from cervix_jax.models.backbones.backbone import Architecture, Backbone
from cervix_jax.models.classifier import ARCHITECTURES

SHARED = Path(os.environ.get("CERVIX_JAX_SHARED", Path(__file__).parents[3] / "shared"))
REAL = {
    "resnet50": SHARED / "weights" / "keras_resnet50_notop_conv1_to_conv3.h5",
    "resnet50_v1_5": SHARED / "weights" / "torchvision_resnet50_v1_conv1_to_layer2.safetensors",
}
PHOTOGRAPHS = SHARED / "data" / "kaggle" / "train"


def template(name: str, cut: str | int) -> Any:
    return shapes(ARCHITECTURES[name], cut)


def shapes(architecture: Architecture, cut: str | int) -> Any:
    return jax.eval_shape(Backbone(architecture, cut).init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))


def random_tree(wanted: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), wanted)


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
