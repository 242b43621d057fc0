"""Pretrained weights of a backbone: from a file, or the published ones by name."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cervix_jax.models.backbones.backbone import Architecture
from cervix_jax.models.classifier import ARCHITECTURES
from cervix_jax.models.weights import keras_h5, published, torch_safetensors
from cervix_jax.models.weights.weights_file import Tree, WeightsError, WeightsNotFoundError, kind_of

IMAGENET = "imagenet"  # instead of a path: the published file


class Format(NamedTuple):
    """A kind of weights file.

    Attributes:
        kind: as `kind_of` calls it.
        needed: what a backbone that uses it needs, for messages.
        read: its reader.
    """

    kind: str
    needed: str
    read: Callable[[Path, Architecture, Mapping], Tree]


_KERAS = Format("an HDF5 file", "Keras' weights in HDF5 (.h5)", keras_h5.read)
_TORCH = Format("a safetensors file", "torchvision's weights in safetensors (.safetensors)", torch_safetensors.read)
FORMATS = {"resnet50": _KERAS, "resnet50_v1_5": _TORCH, "inception_v3": _KERAS}


def load_pretrained(source: str | os.PathLike, backbone: str, template: Mapping) -> Tree:
    """Reads the arrays that a backbone needs.

    Args:
        source: path of a weights file; or 'imagenet', the published one.
        backbone: a name in `ARCHITECTURES`.
        template: `{'params': {layer: {name: leaf}}, 'batch_stats': ...}` of the backbone as it is cut, as
            `jax.eval_shape(module.init, ...)` gives it; of a leaf only `.shape` is used.

    Returns:
        The same tree, of float32 numpy arrays.

    Raises:
        WeightsNotFoundError: there is no file at that path.
        WeightsError: it is another kind of file, or does not fit the backbone, and every reason why; or the published
            one cannot be fetched, and what to do instead.
    """
    path = published.fetch(backbone) if source == IMAGENET else Path(source)
    if not path.is_file():
        raise WeightsNotFoundError(f"there is no weights file at {path}")
    wanted = FORMATS[backbone]
    try:
        kind = kind_of(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if kind not in (wanted.kind, None):  # one that is damaged at its start is left to the reader to refuse
        raise WeightsError(f"{path} is {kind}; {backbone} needs {wanted.needed}")
    return wanted.read(path, ARCHITECTURES[backbone], template)
