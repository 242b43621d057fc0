"""Files that are replaced as a whole: a reader, or a run that was killed, never sees one half written."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def open_atomic(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Opens a file beside `path` for writing, and moves it there when the block ends without an error.

    Args:
      path: where the file will be; its folder is made if missing.
      mode: 'w' or 'wb'.
      **options: of `Path.open`, such as `newline` and `encoding`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, mode, opener=_open_alone, **options) as file:
        try:
            yield file
            file.flush()
            partial.replace(path)  # while nobody else can open it
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _open_alone(path: str, flags: int) -> int:
    """Opens a file that no other process writes, waiting for one that does: else one would move what both have begun.

    What a process that was killed has left is written over.
    """
    while True:
        descriptor = os.open(path, flags & ~os.O_TRUNC, 0o666)
        with contextlib.suppress(OSError):  # of a file system that has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # it was moved while this waited
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # noqa: PTH116
                os.ftruncate(descriptor, 0)
                return descriptor
        os.close(descriptor)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces the content of a file; text is UTF-8."""
    if isinstance(content, bytes):
        with open_atomic(path, "wb") as file:
            file.write(content)
    else:
        with open_atomic(path, encoding="utf-8") as file:
            file.write(content)
