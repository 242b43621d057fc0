"""What the readers of weights files share.

A weights file is somebody else's input. A reader lists what its file declares in the place of each array that the
network needs; `assemble` refuses all that does not fit at once, and only then reads. Nothing is ever unpickled.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cervix_jax.errors import UserError

Shape = tuple[int, ...]
Leaf = tuple[str, str, str, Shape]  # collection, layer, name, and the shape that the network has it in
Tree = dict[str, dict[str, dict[str, np.ndarray]]]  # collection, layer, name


class WeightsError(UserError, ValueError):
    """A weights file is not what the network needs. The message lists every problem found."""


class WeightsNotFoundError(UserError, FileNotFoundError):
    """There is no weights file at the path given."""


class Slot(NamedTuple):
    """An array of the network, and what a file has for it.

    Attributes:
        collection: 'params' or 'batch_stats'.
        layer: of the network.
        name: 'kernel', 'scale', 'bias', 'mean' or 'var'.
        stored_as: its name in the file.
        problem: why the file cannot give it, from what it declares; None if it can.
        read: gives the array, as the network lays it out.
    """

    collection: str
    layer: str
    name: str
    stored_as: str
    problem: str | None
    read: Callable[[], np.ndarray]


def leaves(template: Mapping, known: Mapping[tuple[str, str], str]) -> Iterator[Leaf]:
    """The arrays that a network needs.

    Args:
        template: `{'params': {layer: {name: leaf}}, 'batch_stats': ...}`; of a leaf only `.shape` is used.
        known: (collection, name) of all that the format of the file stores.

    Yields:
        Collection, layer, name and shape of each.

    Raises:
        ValueError: the format has no counterpart for one of them.
    """
    for collection, entries in template.items():
        for layer, arrays in entries.items():
            for name, leaf in arrays.items():
                if (collection, name) not in known:
                    raise ValueError(f"{collection}/{layer}/{name} has no counterpart in such a weights file")
                yield collection, layer, name, tuple(leaf.shape)


def assemble(path: Path, template: Mapping, slots: Iterable[Slot], unexpected: Iterable[str]) -> Tree:
    """Refuses, or reads.

    Args:
        path: of the file, for messages.
        template: as for `leaves`; the result has its collections.
        slots: one for each of its leaves.
        unexpected: names of what the file holds and the whole network has not.

    Returns:
        The tree of the template, of float32 arrays.

    Raises:
        WeightsError: with a line for each array that is missing, misshapen, unexpected, ... or holds NaN, infinity or
            a negative variance.
    """
    slots = list(slots)
    problems = [f"{slot.stored_as}: {slot.problem}" for slot in slots if slot.problem]
    problems += [f"{printable(name)}: unexpected, the network has no such array" for name in unexpected]
    _raise_if(problems, path)

    tree: Tree = {collection: {} for collection in template}
    for slot in slots:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            array = np.asarray(slot.read(), np.float32)
        if not np.isfinite(array).all():
            problems.append(f"{slot.stored_as}: holds NaN or infinity")
        elif slot.name == "var" and (array < 0).any():
            problems.append(f"{slot.stored_as}: holds a negative variance")
        tree[slot.collection].setdefault(slot.layer, {})[slot.name] = array
    _raise_if(problems, path)
    return tree


def printable(name: str) -> str:
    """A name out of a file, escaped if it holds what may upset a terminal or cannot be encoded."""
    return name if name.isprintable() else ascii(name)


def kind_of(path: Path) -> str | None:
    """What a file is, in words, by its first bytes; None if that is unknown."""
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


def _raise_if(problems: list[str], path: Path) -> None:
    if problems:
        raise WeightsError("\n  ".join([f"{path} does not fit the network:", *problems]))
