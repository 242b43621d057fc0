"""A strict reader of torchvision's ResNet-50 in safetensors, a format that cannot hold code.

Keys are those of torchvision's state dict, `layer1.0.conv1.weight`. The `safetensors` package checks that the arrays
that the header declares cover the file exactly, so shapes can be trusted; they are compared before anything is read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from cervix_jax.models.backbones.spec import Architecture
from cervix_jax.models.weights.strict_loading import (
    StoredArray,
    Variable,
    Variables,
    WeightsError,
    load_strict,
    variables_of,
)

MAX_HEADER = 10_000_000  # bytes; a whole ResNet-50 has 34,000

_NAMES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
_CLASSIFIER_KEYS = ("fc.weight", "fc.bias")
_DTYPES = ("F16", "F32", "F64")
_ERRORS = (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError)


def read(path: Path, architecture: Architecture, template: Mapping) -> Variables:
    """Reads the arrays that a network needs up to its cut.

    Layers beyond the cut may be missing from the file. Keys that belong to no layer of the whole network are refused,
    except those of its classifier and PyTorch's `num_batches_tracked`.

    Args:
        path: of the file.
        architecture: the whole network.
        template: of the network as it is cut, as `jax.eval_shape(module.init, ...)` returns it.

    Returns:
        Float32 arrays in the structure of the template; kernels are transposed from (out, in, height, width) to
        (height, width, in, out).

    Raises:
        WeightsError: it is no safetensors file, or its header is larger than 10 MB; or, naming each, arrays are
            missing, misshapen, unexpected, of another dtype than float16, 32 or 64, or hold NaN, infinity or a negative
            variance.
        ValueError: the template has an array that torchvision does not store.
    """
    required = list(variables_of(template, _NAMES))
    try:
        with path.open("rb") as raw:
            header_size = int.from_bytes(raw.read(8), "little")
        if header_size > MAX_HEADER:
            raise WeightsError(f"{path} declares a header of {header_size} bytes; more than {MAX_HEADER} are refused")
        with safe_open(path, framework="numpy") as file:
            keys = set(file.keys())
            unexpected = sorted(keys - set(expected_keys(architecture)))
            return load_strict(path, template, _stored_arrays(file, keys, required), unexpected)
    except WeightsError:
        raise
    except _ERRORS as error:
        raise WeightsError(f"{path} cannot be read as a safetensors file: {error}") from error


def expected_keys(architecture: Architecture) -> Iterator[str]:
    """The keys of a file of the whole network: the state dict of torchvision's `resnet50`."""
    yield from _CLASSIFIER_KEYS
    for layer in architecture.layers:
        if layer.kind == "conv":
            yield f"{_prefix(layer.name)}.weight"
            if architecture.conv_bias:
                yield f"{_prefix(layer.name)}.bias"
        elif layer.kind == "bn":
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                yield f"{_prefix(layer.name)}.{name}"


def _prefix(layer: str) -> str:
    """Torchvision's name of a layer: 'layer1.0.bn3' for 'conv2_block1_3_bn', 'downsample' for the shortcut's."""
    match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", layer)
    if not match:
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[layer]
    stage, block, index, kind = match.groups()
    block = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{block}.downsample.{('conv', 'bn').index(kind)}"
    return f"{block}.{kind}{index}"


def _stored_arrays(file: Any, keys: set[str], required: Iterable[Variable]) -> Iterator[StoredArray]:
    for variable in required:
        key = f"{_prefix(variable.layer)}.{_NAMES[variable.collection, variable.name]}"
        is_kernel = variable.name == "kernel"
        shape = tuple(variable.shape[axis] for axis in (3, 2, 0, 1)) if is_kernel else variable.shape
        problem = _problem(file.get_slice(key), shape) if key in keys else f"missing, expected {shape}"
        yield StoredArray(variable, key, problem, partial(_read, file, key, is_kernel))


def _problem(header: Any, expected: tuple[int, ...]) -> str | None:
    shape, dtype = tuple(header.get_shape()), header.get_dtype()
    if shape != expected:
        return f"expected {expected}, found {shape}"
    if dtype not in _DTYPES:
        return f"expected one of {', '.join(_DTYPES)}, found {dtype}"
    return None


def _read(file: Any, key: str, is_kernel: bool) -> np.ndarray:
    array = file.get_tensor(key)
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if is_kernel else array
