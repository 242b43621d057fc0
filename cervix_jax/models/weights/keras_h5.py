"""A strict reader of Keras' weights in HDF5.

The layout is that of `resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5` as Keras publishes it,
`/LAYER/LAYER/kernel:0`, also without the `:0`, as Keras 3 writes it. HDF5 can name other files, declare arrays that are
not there and inflate without bound: an array is read only if it lies plainly in this file.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py

from cervix_jax.models.backbones.backbone import Architecture
from cervix_jax.models.weights.weights_file import Leaf, Shape, Slot, Tree, WeightsError, assemble, leaves

# (collection, name) -> the name Keras gives it; a convolution's bias is the exception (`_slots`).
_NAMES = {
    ("params", "kernel"): "kernel",
    ("params", "scale"): "gamma",
    ("params", "bias"): "beta",
    ("batch_stats", "mean"): "moving_mean",
    ("batch_stats", "var"): "moving_variance",
}
_CLASSIFIERS = ("predictions", "fc1000", "probs")
_UNNAMED = re.compile(r"(conv2d|batch_normalization)(?:_([1-9]\d{0,8}))?")  # layers that Keras names itself
_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # what h5py raises on damaged files
# Contiguous and compact take the bytes they declare. Chunks may declare more than the array, and their filters inflate
# without bound; virtual layouts read other files. Keras writes none of these.
_PLAIN = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)


def read(path: Path, architecture: Architecture, template: Mapping) -> Tree:
    """Reads the arrays that a network cut anywhere needs.

    The file may lack layers beyond the cut, and what it holds of them is not looked at. A layer that is needed must
    hold its arrays in their shapes, no fewer and no more; a group of arrays that the whole network has not, its
    classifier aside, is refused.

    Args:
        path: the file.
        architecture: the whole network.
        template: of the network as it is cut, as `jax.eval_shape(module.init, ...)` gives it.

    Returns:
        The tree of the template, of float32 arrays.

    Raises:
        WeightsError: it is no HDF5 file; or, naming each, arrays are missing, misshapen, unexpected, of another type
            than float16, 32 or 64, not stored plainly in this file, or hold NaN, infinity or a negative variance.
        ValueError: the template asks for something that Keras does not store.
    """
    wanted = list(leaves(template, _NAMES))
    try:
        with h5py.File(path, "r") as file:
            groups = _groups(file, architecture)
            slots = list(_slots(file, groups, wanted))
            return assemble(path, template, slots, _unexpected(file, groups, slots))
    except WeightsError:
        raise
    except _ERRORS as error:
        raise WeightsError(f"{path} cannot be read as an HDF5 file: {error}") from error


def _groups(file: h5py.File, architecture: Architecture) -> dict[str, str]:
    """Layers of the whole network to their groups in this file.

    Keras numbers layers that were given no name through all networks of a process: `conv2d`, `conv2d_1`, ... What
    counts is the order, so the smallest number in the file is the network's first.
    """
    first: dict[str, int] = {}
    for match in filter(None, map(_UNNAMED.fullmatch, _names(file))):
        prefix, number = match[1], int(match[2] or 0)
        first[prefix] = min(number, first.get(prefix, number))
    groups = {}
    for layer in architecture.layers:
        if layer.kind not in ("conv", "bn"):
            continue
        groups[layer.name] = layer.name
        unnamed = _UNNAMED.fullmatch(layer.name)
        if unnamed and unnamed[1] in first:
            number = int(unnamed[2]) - 1 + first[unnamed[1]]
            groups[layer.name] = f"{unnamed[1]}_{number}" if number else unnamed[1]
    return groups


def _slots(file: h5py.File, groups: Mapping[str, str], wanted: Collection[Leaf]) -> Iterator[Slot]:
    convolutions = {layer for _, layer, name, _ in wanted if name == "kernel"}
    for collection, layer, name, shape in wanted:
        keras_name = "bias" if name == "bias" and layer in convolutions else _NAMES[collection, name]
        group = groups[layer]
        inner = _child(_child(file, group), group)
        found = _child(inner, f"{keras_name}:0")
        if found is None:
            found = _child(inner, keras_name)
        yield Slot(collection, layer, name, f"{group}/{keras_name}", _problem(found, shape), partial(_data, found))


def _unexpected(file: h5py.File, groups: Mapping[str, str], slots: Collection[Slot]) -> Iterator[str]:
    """Paths of what the network has not."""
    needed: dict[str, set[str]] = {}
    for slot in slots:
        group, keras_name = slot.stored_as.split("/")
        needed.setdefault(group, set()).add(keras_name)
    beside = {*groups.values(), *_CLASSIFIERS}
    for name in _names(file):
        if name in needed:
            outer = _child(file, name)
            inner = _child(outer, name)
            if isinstance(outer, h5py.Group):
                yield from (
                    f"{name}/{other}" for other in _names(outer) if other != name and _holds_arrays(outer, other)
                )
            if isinstance(inner, h5py.Group):
                # Of two spellings the one with ':0' was taken.
                taken = {f"{known}:0" if f"{known}:0" in inner else known for known in needed[name]}
                yield from (f"{name}/{stored}" for stored in _names(inner) if stored not in taken)
        elif name not in beside and _holds_arrays(file, name):
            yield name


def _names(group: h5py.Group) -> list[str]:
    """What is in a group; h5py gives bytes where a name is no UTF-8."""
    return [name if isinstance(name, str) else name.decode("utf8", "surrogateescape") for name in group]


def _holds_arrays(group: h5py.Group, name: str) -> bool:
    """Whether what lies there is anything but groups of groups, as Keras makes for layers without weights."""
    found = _child(group, name)
    if not isinstance(found, h5py.Group):
        return True
    # Follows hard links only, each object once.
    return bool(found.visititems(lambda _, item: None if isinstance(item, h5py.Group) else True))


def _child(group: Any, name: str) -> Any:
    """The object `name` in `group`, None if there is none, or words if it is not to be followed.

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


def _problem(found: Any, shape: Shape) -> str | None:
    """What the object's metadata has against reading it as an array of this shape; reads no data."""
    if found is None:
        return f"missing, expected {shape}"
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


def _data(found: Any) -> Any:
    return found[()]
