"""Photographs of folders, read ahead by threads."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from cervix_jax import progress
from cervix_jax.errors import UserError
from cervix_jax.images.files import UnreadableError, find_photographs, read_bytes
from cervix_jax.inference.predictor import Photograph, Predictor

_THREADS, _AHEAD = 2, 32


class NoPhotographsError(UserError):
    """A folder is missing or holds no file that is named like a picture."""


def photographs_in(folder: Path) -> list[Path]:
    """Every photograph of a folder and its subfolders, in order.

    Raises:
      NoPhotographsError: there is none.
    """
    paths = find_photographs(folder) if folder.is_dir() else []
    if not paths:
        raise NoPhotographsError(f"{folder} holds no pictures" if folder.is_dir() else f"there is no folder {folder}")
    return paths


def read_all(predictor: Predictor, folder: Path, paths: Sequence[Path]) -> Iterator[tuple[str, Photograph | str]]:
    """The name of each photograph inside its folder, and the photograph, or the reason why it cannot be read.

    At most some tens are held at a time. A bar on a terminal shows how far it is.
    """

    def read(path: Path) -> Photograph | str:
        try:
            return predictor.read(read_bytes(path, inside=folder))
        except UnreadableError as error:
            return str(error)

    waiting = iter(paths)
    with ThreadPoolExecutor(_THREADS) as threads, _bar(len(paths)) as bar:
        while part := list(itertools.islice(waiting, _AHEAD)):
            for path, found in zip(part, threads.map(read, part), strict=True):
                bar.update()
                yield path.relative_to(folder).as_posix(), found


def _bar(total: int) -> tqdm:
    return tqdm(total=total, unit="photograph", disable=True if progress.is_muted() else None)
