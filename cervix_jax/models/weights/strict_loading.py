"""What the readers of weights files share: every array is checked before any is read, and nothing is left over.

A weights file is somebody else's input. A reader lists, for each array that the network needs, what the file declares
in its place; `load_strict` refuses everything that does not fit at once, and only then reads. Nothing is unpickled.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cervix_jax.errors import UserError

Variables = dict[str, dict[str, dict[str, np.ndarray]]]  # collection, layer, name


class WeightsError(UserError, ValueError):
    """A weights file does not fit the network. The message lists every problem."""


class WeightsNotFoundError(UserError, FileNotFoundError):
    """There is no weights file at the path."""


class Variable(NamedTuple):
    """An array that the network needs.

    Attributes:
        collection: 'params' or 'batch_stats'.
        layer: its layer's name in the network.
        name: 'kernel', 'scale', 'bias', 'mean' or 'var'.
        shape: in the network.
    """

    collection: str
    layer: str
    name: str
    shape: tuple[int, ...]


class StoredArray(NamedTuple):
    """What a file declares for a variable.

    Attributes:
        variable: the array of the network.
        key: its name in the file.
        problem: why it cannot be loaded, judged by metadata alone; None if it can.
        read: reads it, in the layout of the network.
    """

    variable: Variable
    key: str
    problem: str | None
    read: Callable[[], np.ndarray]


def variables_of(template: Mapping, names: Mapping[tuple[str, str], str]) -> Iterator[Variable]:
    """The arrays that a network needs.

    Args:
        template: `{'params': {layer: {name: leaf}}, 'batch_stats': ...}`; of a leaf only `.shape` is used.
        names: (collection, name) of everything that the file format stores.

    Raises:
        ValueError: the format has no counterpart for one of them.
    """
    for collection, layers in template.items():
        for layer, arrays in layers.items():
            for name, leaf in arrays.items():
                if (collection, name) not in names:
                    raise ValueError(f"{collection}/{layer}/{name} has no counterpart in such a weights file")
                yield Variable(collection, layer, name, tuple(leaf.shape))


def load_strict(path: Path, template: Mapping, stored: Iterable[StoredArray], unexpected: Iterable[str]) -> Variables:
    """Reads all arrays, or raises an error that lists every problem.

    Args:
        path: of the file, for messages.
        template: as for `variables_of`.
        stored: one for each variable of the template.
        unexpected: keys in the file that the whole network has no array for.

    Returns:
        Float32 arrays in the structure of the template.

    Raises:
        WeightsError: with a line for each array that is missing, misshapen, unexpected, ... or holds NaN, infinity or
            a negative variance.
    """
    stored = list(stored)
    problems = [f"{array.key}: {array.problem}" for array in stored if array.problem]
    problems += [f"{_printable(key)}: unexpected, the network has no such array" for key in unexpected]
    _raise_if(problems, path)

    variables: Variables = {collection: {} for collection in template}
    for (collection, layer, name, _), key, _, read in stored:
        with np.errstate(over="ignore"):  # what overflows float32 becomes infinite, and is refused as such
            array = np.asarray(read(), np.float32)
        if not np.isfinite(array).all():
            problems.append(f"{key}: holds NaN or infinity")
        elif name == "var" and (array < 0).any():
            problems.append(f"{key}: holds a negative variance")
        variables[collection].setdefault(layer, {})[name] = array
    _raise_if(problems, path)
    return variables


def _printable(key: str) -> str:
    """A name from a file, escaped if it holds characters that could garble a terminal or cannot be encoded."""
    return key if key.isprintable() else ascii(key)


def _raise_if(problems: list[str], path: Path) -> None:
    if problems:
        raise WeightsError("\n  ".join([f"{path} does not fit the network:", *problems]))
