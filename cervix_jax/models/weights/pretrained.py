"""Pretrained weights of a backbone: from a file, or the published ones by name."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.spec import Architecture
from cervix_jax.models.weights import keras_h5, published, torch_safetensors
from cervix_jax.models.weights.strict_loading import Variables, WeightsError, WeightsNotFoundError

IMAGENET = "imagenet"  # in the place of a path: the published file


class Format(NamedTuple):
    """A format of weights files.

    Attributes:
        container: as `detect_container` names it.
        description: for messages.
        read: its reader.
    """

    container: str
    description: str
    read: Callable[[Path, Architecture, Mapping], Variables]


FORMATS = {
    "keras_h5": Format("an HDF5 file", "Keras' weights in HDF5 (.h5)", keras_h5.read),
    "torch_safetensors": Format(
        "a safetensors file", "torchvision's weights in safetensors (.safetensors)", torch_safetensors.read
    ),
}


def load_pretrained(source: str | os.PathLike, backbone: str, template: Mapping) -> Variables:
    """Reads the arrays that a backbone needs.

    Args:
        source: path of a weights file; or 'imagenet', the published one.
        backbone: a name in `BACKBONES`.
        template: `{'params': {layer: {name: leaf}}, 'batch_stats': ...}` of the backbone as it is cut, as
            `jax.eval_shape(module.init, ...)` returns it; of a leaf only `.shape` is used.

    Returns:
        Float32 arrays in the structure of the template.

    Raises:
        WeightsNotFoundError: there is no file at the path.
        WeightsError: the file is of another kind or does not fit the backbone, with every reason; or the published one
            cannot be downloaded, with the way out.
    """
    architecture = BACKBONES[backbone]
    path = published.fetch(backbone, architecture.weights) if source == IMAGENET else Path(source)
    if not path.is_file():
        raise WeightsNotFoundError(f"there is no weights file at {path}")
    expected = FORMATS[architecture.weights.format]
    try:
        container = detect_container(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if container not in (expected.container, None):  # the reader refuses what is damaged at its start
        raise WeightsError(f"{path} is {container}; {backbone} needs {expected.description}")
    return expected.read(path, architecture, template)


def detect_container(path: Path) -> str | None:
    """What kind of file it is, in words, by its first bytes; None if unknown."""
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file"
    if start[4:] == b"\0\0\0\0{":  # 8 bytes: length of a header in JSON, below 4 GiB
        return "a safetensors file"
    if start.startswith(b"PK"):
        return "a zip archive, as PyTorch's .pth and Keras' .keras are"
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a Python pickle, as PyTorch's .pth was"
    return None
