"""Finds photographs in a folder and reads their bytes, without following links out of it."""

import os
import stat
from collections import deque
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# Pictures that are not read, but said.
OTHER_PICTURES = (".heic", ".heif", ".avif", ".dcm", ".dicom", ".raw", ".dng", ".cr2", ".nef", ".jp2", ".pdf")
MAX_BYTES = 400_000_000  # an uncompressed picture of `decode.MAX_PIXELS`


class UnreadableError(ValueError):
    """A file is not a photograph that can be read; the message is the reason, in a few words."""


def find_photographs(folder: Path, inside: Path | None = None) -> list[Path]:
    """Every file below a folder that is named like a picture, in a fixed order (numbers by value).

    Hidden files and folders, and the thumbnails that a network drive keeps in `@eaDir`, are left out. Links are
    followed as long as they stay inside, and no folder is searched twice. Links that leave, special files and folders
    that cannot be searched are returned too: `read_bytes` says why it refuses them.

    Args:
      folder: searched with its subfolders.
      inside: where links may lead; `folder` unless given.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    photographs, searched, waiting = [], set(), deque([folder])
    while waiting:
        current = waiting.popleft()
        if (real := os.path.realpath(current)) in searched:
            continue
        searched.add(real)
        try:
            paths = sorted(current.iterdir())
        except OSError:
            photographs.append(current)
            continue
        for path in paths:
            if is_hidden(path.name):
                continue
            is_link, is_folder = path.is_symlink(), os.path.isdir(path)  # noqa: PTH112 (pathlib raises at loops)
            if is_folder and is_link and leaves(path, inside or folder):
                photographs.append(path)
            elif is_folder and is_link:
                waiting.append(path)  # after all real folders: photographs go by their real names
            elif is_folder:
                waiting.appendleft(path)
            elif path.suffix.lower() in SUFFIXES:
                photographs.append(path)
    return sorted(photographs, key=lambda p: (p.parent, _number(p.stem), p.name))


def kinds_not_read(names: Iterable[str]) -> list[str]:
    """A line for each kind of file, by its suffix: that it is not read, how many there are, and one of them."""
    by_suffix: dict[str, list[str]] = {}
    for name in names:
        by_suffix.setdefault(Path(name).suffix.lower(), []).append(name)
    lines = []
    for suffix, alike in by_suffix.items():
        files = f"{len(alike)} file{'s' if len(alike) > 1 else ''} {f'*{suffix}' if suffix else 'without a suffix'}"
        hint = " (convert them to JPEG)" if suffix in OTHER_PICTURES else ""
        lines.append(f"not read: {files}, such as {alike[0]}{hint}")
    return lines


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that people see."""
    return name.startswith((".", "@eaDir"))


def leaves(path: Path, folder: Path) -> bool:
    """Whether a path leads out of a folder once links are followed."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def read_bytes(path: str | os.PathLike[str], inside: Path | None = None) -> bytes:
    """The bytes of a regular file of sensible size: no pipe that waits for ever, no device that never ends.

    Args:
      path: of the file.
      inside: a folder that the path must not leave by a link; not checked unless given.

    Raises:
      UnreadableError: the path is no such file, or cannot be read.
    """
    try:
        if inside is not None and leaves(Path(path), inside):
            raise UnreadableError("a link that leaves the folder")
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not an ordinary file")
        if status.st_size > MAX_BYTES:
            raise UnreadableError(f"{status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


def _number(stem: str) -> int:
    return int(stem) if stem.isascii() and stem.isdigit() else 1 << 62
