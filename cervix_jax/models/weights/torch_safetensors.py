"""A strict reader of torchvision's ResNet-50 in safetensors, the format without code in it.

Names are those of torchvision's state dict, `layer1.0.conv1.weight`. The `safetensors` package checks that what the
header declares covers the file exactly, so shapes can be trusted; here they are compared before anything is read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from cervix_jax.models.backbones.backbone import Architecture
from cervix_jax.models.weights.weights_file import Leaf, Shape, Slot, Tree, WeightsError, assemble, leaves

MAX_HEADER = 10_000_000  # bytes; that of a whole ResNet-50 has 34 000

_NAMES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_CLASSIFIER = ("fc.weight", "fc.bias")
_TYPES = ("F16", "F32", "F64")
_ERRORS = (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError)


def read(path: Path, architecture: Architecture, template: Mapping) -> Tree:
    """Reads the arrays that a network cut anywhere needs.

    The file may lack those of layers beyond the cut. Whatever the whole network has not, its classifier and the counts
    of batches that PyTorch keeps aside, is refused.

    Args:
        path: the file.
        architecture: the whole network.
        template: of the network as it is cut, as `jax.eval_shape(module.init, ...)` gives it.

    Returns:
        The tree of the template, of float32 arrays; kernels are turned from (out, in, height, width) to (height, width,
        in, out).

    Raises:
        WeightsError: it is no safetensors file, or its header is larger than 10 MB; or, naming each, arrays are
            missing, misshapen, unexpected, of another type than float16, 32 or 64, or hold NaN, infinity or a negative
            variance.
        ValueError: the template asks for something that torchvision does not store.
    """
    wanted = list(leaves(template, _NAMES))
    try:
        with path.open("rb") as start:
            header = int.from_bytes(start.read(8), "little")
        if header > MAX_HEADER:
            raise WeightsError(f"{path} declares a header of {header} bytes; more than {MAX_HEADER} are refused")
        with safe_open(path, framework="numpy") as file:
            stored = set(file.keys())
            unexpected = sorted(stored - set(_known(architecture)))
            return assemble(path, template, _slots(file, stored, wanted), unexpected)
    except WeightsError:
        raise
    except _ERRORS as error:
        raise WeightsError(f"{path} cannot be read as a safetensors file: {error}") from error


def _known(architecture: Architecture) -> Iterator[str]:
    """Names of all that a file of the whole network may hold."""
    yield from _CLASSIFIER
    for layer in architecture.layers:
        if layer.kind == "conv":
            yield f"{_prefix(layer.name)}.weight"
            if architecture.conv_bias:
                yield f"{_prefix(layer.name)}.bias"
        elif layer.kind == "bn":
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                yield f"{_prefix(layer.name)}.{name}"


def _prefix(layer: str) -> str:
    """'conv2_block1_3_bn' is torchvision's 'layer1.0.bn3'; the shortcut's layers are its 'downsample'."""
    match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer)
    if not match:
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[layer]
    stage, block, index, kind = match.groups()
    block = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{block}.downsample.{('conv', 'bn').index(kind)}"
    return f"{block}.{kind}{index}"


def _slots(file: Any, stored: set[str], wanted: Iterable[Leaf]) -> Iterator[Slot]:
    for collection, layer, name, shape in wanted:
        key = f"{_prefix(layer)}.{_NAMES[collection, name]}"
        if name == "kernel":
            shape = tuple(shape[axis] for axis in (3, 2, 0, 1))
        problem = _problem(file.get_slice(key), shape) if key in stored else f"missing, expected {shape}"
        yield Slot(collection, layer, name, key, problem, partial(_data, file, key, name == "kernel"))


def _problem(declared: Any, shape: Shape) -> str | None:
    found = tuple(declared.get_shape())
    if found != shape:
        return f"expected {shape}, found {found}"
    if declared.get_dtype() not in _TYPES:
        return f"expected one of {', '.join(_TYPES)}, found {declared.get_dtype()}"
    return None


def _data(file: Any, key: str, kernel: bool) -> np.ndarray:
    array = file.get_tensor(key)
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if kernel else array
