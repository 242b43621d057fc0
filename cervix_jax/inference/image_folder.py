"""Photographs of folders, read ahead by threads."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from cervix_jax import progress
from cervix_jax.errors import UserError
from cervix_jax.images.files import (
    OTHER_PICTURES,
    SUFFIXES,
    UnreadableError,
    find_photographs,
    is_hidden,
    kinds_not_read,
    read_bytes,
)
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor

_THREADS, _READ_AHEAD = 2, 32


class NoPhotographsError(UserError):
    """A folder is missing or holds no file that is named like a picture."""


def photographs_in(path: Path) -> tuple[Path, list[Path]]:
    """The folder, and every photograph in it and its subfolders, in order; of a file its folder and itself.

    Logs a line for each kind of picture there that is not read.

    Raises:
      NoPhotographsError: there is none.
    """
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise NoPhotographsError(f"{path} is not named like a picture ({', '.join(sorted(SUFFIXES))})")
        return path.parent, [path]
    if not path.is_dir():
        raise NoPhotographsError(f"there is no folder or file {path}")
    others = [other.relative_to(path) for other in sorted(path.rglob("*")) if other.suffix.lower() in OTHER_PICTURES]
    lines = kinds_not_read(other.as_posix() for other in others if not any(map(is_hidden, other.parts)))
    if not (paths := find_photographs(path)):
        raise NoPhotographsError("; ".join([f"{path} holds no pictures", *lines]))
    for line in lines:
        progress.log(line)
    return path, paths


def read_all(
    predictor: Predictor, folder: Path, paths: Sequence[Path], *, with_features: bool = False
) -> Iterator[tuple[str, Photograph | str]]:
    """Reads photographs; at most some tens are held at a time. A bar on a terminal shows the progress.

    Args:
      predictor: whose transforms they are read by.
      folder: that holds them; links must not leave it.
      paths: of the photographs.
      with_features: see `Photograph`.

    Yields:
      The path inside the folder, and the photograph, or the reason why it cannot be read.
    """

    def read(path: Path) -> Photograph | str:
        try:
            return predictor.read(read_bytes(path, inside=folder), with_features=with_features)
        except UnreadableError as error:
            return str(error)

    remaining = iter(paths)
    with ThreadPoolExecutor(_THREADS) as threads, _bar(len(paths)) as bar:
        while chunk := list(itertools.islice(remaining, _READ_AHEAD)):
            for path, photograph in zip(chunk, threads.map(read, chunk), strict=True):
                bar.update()
                yield path.relative_to(folder).as_posix(), photograph


def _bar(total: int) -> tqdm:
    return tqdm(total=total, unit="photograph", disable=True if progress.is_silenced() else None)
