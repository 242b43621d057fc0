"""Files that are replaced as a whole: a reader, or a run that was killed, never sees one half written."""

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
    try:
        with partial.open(mode, **options) as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces the content of a file; text is UTF-8."""
    if isinstance(content, bytes):
        with open_atomic(path, "wb") as file:
            file.write(content)
    else:
        with open_atomic(path, encoding="utf-8") as file:
            file.write(content)
