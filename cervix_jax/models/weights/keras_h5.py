"""A strict reader of Keras' weights in HDF5.

The layout is that of `resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5` as Keras publishes it,
`/LAYER/LAYER/kernel:0`, also without the `:0`, as Keras 3 writes it. HDF5 can link to other files, declare arrays that
were never written, and decompress without bound: only arrays that are stored uncompressed in this file are read.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from cervix_jax.models.backbones.spec import Architecture
from cervix_jax.models.weights.strict_loading import (
    StoredArray,
    Variable,
    Variables,
    WeightsError,
    load_strict,
    variables_of,
)

# (collection, name) -> Keras' name; the bias of a convolution is the exception (`_stored_arrays`).
_NAMES = {
    ("params", "kernel"): "kernel",
    ("params", "scale"): "gamma",
    ("params", "bias"): "beta",
    ("batch_stats", "mean"): "moving_mean",
    ("batch_stats", "var"): "moving_variance",
}
_CLASSIFIERS = ("predictions", "fc1000", "probs")
_AUTOMATIC = re.compile(r"(conv2d|batch_normalization)(?:_([1-9]\d{0,8}))?")  # Keras' names of unnamed layers
_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # what h5py raises on damaged files
# Contiguous and compact layouts hold the bytes they declare. Chunks may declare more than the array, and their filters
# decompress without bound; virtual layouts read other files. Keras writes none of these.
_PLAIN_LAYOUTS = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)


def read(path: Path, architecture: Architecture, template: Mapping) -> Variables:
    """Reads the arrays that a network needs up to its cut.

    Layers beyond the cut may be missing from the file, and are not examined. A layer up to the cut must have exactly
    its arrays in their shapes; groups with arrays that belong to no layer of the whole network, or its classifier, are
    refused.

    Args:
        path: of the file.
        architecture: the whole network.
        template: of the network as it is cut, as `jax.eval_shape(module.init, ...)` returns it.

    Returns:
        Float32 arrays in the structure of the template.

    Raises:
        WeightsError: it is no HDF5 file; or, naming each, arrays are missing, misshapen, unexpected, of another dtype
            than float16, 32 or 64, not stored plainly in this file, or hold NaN, infinity or a negative variance.
        ValueError: the template has an array that Keras does not store.
    """
    required = list(variables_of(template, _NAMES))
    try:
        with h5py.File(path, "r") as file:
            groups = _groups(file, architecture)
            stored = list(_stored_arrays(file, groups, required))
            return load_strict(path, template, stored, _unexpected(file, groups, stored))
    except WeightsError:
        raise
    except _ERRORS as error:
        raise WeightsError(f"{path} cannot be read as an HDF5 file: {error}") from error


def _groups(file: h5py.File, architecture: Architecture) -> dict[str, str]:
    """Maps layers of the whole network to their groups in this file.

    Keras numbers unnamed layers across all networks of a process: `conv2d`, `conv2d_1`, ... Their order is what counts,
    so the smallest number in the file is that of the network's first.
    """
    first: dict[str, int] = {}
    for match in filter(None, map(_AUTOMATIC.fullmatch, _names(file))):
        prefix, number = match[1], int(match[2] or 0)
        first[prefix] = min(number, first.get(prefix, number))
    groups = {}
    for layer in architecture.layers:
        if layer.kind not in ("conv", "bn"):
            continue
        groups[layer.name] = layer.name
        automatic = _AUTOMATIC.fullmatch(layer.name)
        if automatic and automatic[1] in first:
            number = int(automatic[2]) - 1 + first[automatic[1]]
            groups[layer.name] = f"{automatic[1]}_{number}" if number else automatic[1]
    return groups


def _stored_arrays(file: h5py.File, groups: Mapping[str, str], required: Collection[Variable]) -> Iterator[StoredArray]:
    convolutions = {variable.layer for variable in required if variable.name == "kernel"}
    for variable in required:
        is_conv_bias = variable.name == "bias" and variable.layer in convolutions
        keras_name = "bias" if is_conv_bias else _NAMES[variable.collection, variable.name]
        group = groups[variable.layer]
        inner = _child(_child(file, group), group)
        item = _child(inner, f"{keras_name}:0")
        if item is None:
            item = _child(inner, keras_name)
        yield StoredArray(variable, f"{group}/{keras_name}", _problem(item, variable.shape), partial(_read, item))


def _unexpected(file: h5py.File, groups: Mapping[str, str], stored: Collection[StoredArray]) -> Iterator[str]:
    """Paths of arrays, and of groups that hold some, that the network does not have."""
    required: dict[str, set[str]] = {}
    for array in stored:
        group, keras_name = array.key.split("/")
        required.setdefault(group, set()).add(keras_name)
    not_examined = {*groups.values(), *_CLASSIFIERS}
    for group in _names(file):
        if group in required:
            outer = _child(file, group)
            inner = _child(outer, group)
            if isinstance(outer, h5py.Group):
                yield from (f"{group}/{name}" for name in _names(outer) if name != group and _holds_arrays(outer, name))
            if isinstance(inner, h5py.Group):
                # Of two spellings the one with ':0' is read.
                read_names = {f"{name}:0" if f"{name}:0" in inner else name for name in required[group]}
                yield from (f"{group}/{name}" for name in _names(inner) if name not in read_names)
        elif group not in not_examined and _holds_arrays(file, group):
            yield group


def _names(group: h5py.Group) -> list[str]:
    """Names in a group; those that are not UTF-8, which h5py returns as bytes, are decoded."""
    return [name if isinstance(name, str) else name.decode("utf8", "surrogateescape") for name in group]


def _holds_arrays(group: h5py.Group, name: str) -> bool:
    """Whether an item is more than nested empty groups, which Keras writes for layers without weights."""
    item = _child(group, name)
    if not isinstance(item, h5py.Group):
        return True
    # Follows hard links only, each object once.
    return bool(item.visititems(lambda _, item: None if isinstance(item, h5py.Group) else True))


def _child(group: Any, name: str) -> Any:
    """The object `name` in `group`; None if there is none; a `str` that says why if it must not be opened.

    Keras writes hard links only; a soft link can lead to an external one, which opens any file it names.
    """
    if group is None or isinstance(group, str):
        return group
    if not isinstance(group, h5py.Group):
        return f"lies in no group but in a {type(group).__name__}"
    encoded = name.encode("utf8", "surrogateescape")  # as h5py spells names that are not UTF-8
    if not group.id.links.exists(encoded):
        return None
    if group.id.links.get_info(encoded).type != h5py.h5l.TYPE_HARD:
        return "a soft or external link, refused"
    return group[encoded]


def _problem(item: Any, shape: tuple[int, ...]) -> str | None:
    """Why an item cannot be read as an array of this shape, judged by its metadata; None if it can."""
    if item is None:
        return f"missing, expected {shape}"
    if isinstance(item, str):
        return item
    if not isinstance(item, h5py.Dataset):
        return f"no array but {type(item).__name__}, expected {shape}"
    if item.shape != shape:
        return f"expected {shape}, found {item.shape}"
    if item.dtype.kind != "f" or item.dtype.itemsize > 8:
        return f"expected floating point, found {item.dtype}"
    storage = item.id.get_create_plist()
    if storage.get_layout() not in _PLAIN_LAYOUTS or storage.get_external_count():
        return "chunked, compressed, virtual or kept in another file, refused"
    if item.id.get_storage_size() < item.size * item.dtype.itemsize:
        return f"declares {shape} but was never written"
    return None


def _read(item: Any) -> Any:
    return item[()]
