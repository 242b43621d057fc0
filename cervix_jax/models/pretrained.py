"""Pretrained weights: the preprocessing that belongs to them, and a strict reader of Keras' HDF5 files.

Weights are only right with the pixels they were trained on, so a preprocessing has a name and travels with
them.

A weights file is somebody else's input. Nothing in it is unpickled or evaluated; it may not name another
file; an array is read only after its declared shape, type and storage are known to be those of the network;
and every disagreement is reported at once. The layout is that of
`resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5` as Keras publishes it, `/LAYER/LAYER/kernel:0`, also
without the `:0`, as Keras 3 writes it.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cervix_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What the weights were trained on: channel order, mean, standard deviation.

    Attributes:
        name: its key in `PREPROCESSING`.
        channel_order: 'RGB' or 'BGR', what the network reads.
        mean: subtracted, in that order, on the scale 0 to 255.
        std: divided by, likewise.
    """

    name: str
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"channel order is 'RGB' or 'BGR', not {self.channel_order!r}")

    def __call__(self, images: Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
        """Turns RGB images on the scale 0 to 255 into what the network reads, in the same dtype."""
        if self.channel_order == "BGR":
            images = images[..., ::-1]
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)


# Keras' `imagenet_utils.preprocess_input` has the first three under these names.
PREPROCESSING: dict[str, Preprocessing] = {
    p.name: p
    for p in (
        Preprocessing("caffe", "BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
        Preprocessing("torch", "RGB", (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
        Preprocessing("tf", "RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        Preprocessing("identity", "RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    )
}


class WeightsError(UserError, ValueError):
    """A weights file is not what the network needs. The message lists every problem found."""


class WeightsNotFoundError(UserError, FileNotFoundError):
    """There is no weights file at the path given."""


def load_keras_h5(path: str | os.PathLike, template: Mapping) -> dict:
    """Reads the arrays a network needs from an HDF5 weights file of Keras.

    The file may hold layers the network has not (one cut early needs only the first): they are not looked at.
    A layer both have must hold the same arrays in the same shapes, no fewer and no more.

    Args:
        path: the file.
        template: `{'params': {layer: {name: leaf}}, 'batch_stats': ...}`, as `jax.eval_shape(module.init,
            ...)` gives it; of a leaf only `.shape` is used.

    Returns:
        The same tree, of float32 numpy arrays.

    Raises:
        WeightsNotFoundError: there is no file at `path`.
        WeightsError: it is no HDF5 file; or, naming each, arrays are missing, misshapen, unexpected, of
            another type than float16, 32 or 64, not stored plainly in this file, or hold NaN, infinity or a
            negative variance.
        ValueError: the template asks for something Keras does not store.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsNotFoundError(f"there is no weights file at {path}")
    layers = _layers_of(template)
    try:
        with h5py.File(path, "r") as file:
            return _read(file, layers, template, str(path))
    except WeightsError:
        raise
    except _H5PY_ERRORS as error:
        raise WeightsError(f"{path} cannot be read as an HDF5 file: {error}") from error


_H5PY_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # what it raises on damaged files
# (collection, name) -> the name Keras gives it; a convolution's bias is the exception (`_layers_of`).
_KERAS_NAMES = {
    ("params", "kernel"): "kernel",
    ("params", "scale"): "gamma",
    ("params", "bias"): "beta",
    ("batch_stats", "mean"): "moving_mean",
    ("batch_stats", "var"): "moving_variance",
}
# Contiguous and compact take the bytes they declare. Chunks may declare more than the array, and their
# filters inflate without bound; virtual layouts read other files. Keras writes none of these.
_PLAIN = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    collection: str
    name: str
    shape: tuple[int, ...]


def _layers_of(template: Mapping) -> dict[str, dict[str, _Wanted]]:
    """{layer: {Keras' name of the array: what we call it}}, collections merged as Keras has them."""
    layers: dict[str, dict[str, _Wanted]] = {}
    for collection, entries in template.items():
        for layer, arrays in entries.items():
            for name, leaf in arrays.items():
                if (collection, name) not in _KERAS_NAMES:
                    raise ValueError(f"{collection}/{layer}/{name} has no counterpart in a weights file of Keras")
                keras_name = _KERAS_NAMES[collection, name]
                if name == "bias" and "kernel" in arrays:
                    keras_name = "bias"
                wanted = _Wanted(collection, name, tuple(leaf.shape))
                layers.setdefault(layer, {})[keras_name] = wanted
    return layers


def _read(file: h5py.File, layers: dict[str, dict[str, _Wanted]], template: Mapping, path: str) -> dict:
    """Checks everything declared, then reads, then checks the values."""
    problems: list[str] = []
    datasets: dict[tuple[str, str], h5py.Dataset] = {}
    for layer, arrays in layers.items():
        for keras_name, found in _find_layer(file, layer, arrays, problems).items():
            problem = _problem(found, arrays[keras_name].shape)
            if problem:
                problems.append(f"{layer}/{keras_name}: {problem}")
            else:
                datasets[layer, keras_name] = found
    _raise_if(problems, path)

    tree: dict[str, dict[str, dict[str, np.ndarray]]] = {collection: {} for collection in template}
    for (layer, keras_name), dataset in datasets.items():
        wanted = layers[layer][keras_name]
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            array = np.asarray(dataset[()], np.float32)
        if not np.isfinite(array).all():
            problems.append(f"{layer}/{keras_name}: holds NaN or infinity")
        elif wanted.name == "var" and (array < 0).any():
            problems.append(f"{layer}/{keras_name}: holds a negative variance")
        tree[wanted.collection].setdefault(layer, {})[wanted.name] = array
    _raise_if(problems, path)
    return tree


def _find_layer(file: h5py.File, layer: str, arrays: Mapping[str, _Wanted], problems: list[str]) -> dict[str, Any]:
    """What lies at `/LAYER/LAYER/NAME`, by Keras' name without `:0`; notes what is missing or extra."""
    group = _child(_child(file, layer), layer)
    if not isinstance(group, h5py.Group):
        expected = ", ".join(f"{name} {wanted.shape}" for name, wanted in arrays.items())
        problems.append(f"{layer}: {group or 'missing'}, expected {expected}")
        return {}
    found: dict[str, Any] = {}
    for stored in group:
        name = stored.removesuffix(":0")
        if name not in arrays or name in found:
            problems.append(f"{layer}/{stored}: unexpected, the network has {', '.join(arrays)}")
        else:
            found[name] = _child(group, stored)
    for name in arrays:
        if name not in found:
            problems.append(f"{layer}/{name}: missing, expected {arrays[name].shape}")
    return found


def _child(group: Any, name: str) -> Any:
    """The object `name` in `group`, None if there is none, or words if it is not to be followed.

    Keras writes hard links only; a soft link can lead to an external one, which opens any file it names.
    """
    if not isinstance(group, h5py.Group):
        return group
    encoded = name.encode("utf8", "surrogateescape")  # as h5py spells names that are not UTF-8
    if not group.id.links.exists(encoded):
        return None
    if group.id.links.get_info(encoded).type != h5py.h5l.TYPE_HARD:
        return "a soft or external link, refused"
    return group[name]


def _problem(found: Any, shape: tuple[int, ...]) -> str | None:
    """What the object's metadata has against reading it as an array of this shape; reads no data."""
    if isinstance(found, str):
        return found
    if not isinstance(found, h5py.Dataset):
        return f"no array but {type(found).__name__}, expected {shape}"
    if found.shape != shape:
        return f"expected {shape}, found {found.shape}"
    if found.dtype.kind != "f" or found.dtype.itemsize > 8:
        return f"expected floating point, found {found.dtype}"
    storage = found.id.get_create_plist()
    if storage.get_layout() not in _PLAIN or storage.get_external_count():
        return "chunked, compressed, virtual or kept in another file, refused"
    if found.id.get_storage_size() < found.size * found.dtype.itemsize:
        return f"declares {shape} but was never written"
    return None


def _raise_if(problems: list[str], path: str) -> None:
    if problems:
        raise WeightsError("\n  ".join([f"{path} does not fit the network:", *problems]))
