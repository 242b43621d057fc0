"""What files hold, as SHA-256; each is read once, and again when its size, time or place on the disk has changed."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from cervix_jax.images.files import UnreadableError, read_bytes

NAME = "cervix_digests.sqlite"  # in the root of all data sets
_Key = tuple[str, int, int, int]  # absolute path, size in bytes, time of change in nanoseconds, inode


def file_digests(folder: Path, names: Iterable[str], cache: Path) -> dict[str, str]:
    """The digest of each file; '' of one that cannot be read.

    Args:
      folder: that holds them; links must not leave it.
      names: paths inside it.
      cache: SQLite file, made if missing; without access to it every file is read.
    """
    keys = {name: _key(folder / name) for name in names}
    known = _known(cache)
    digests, new = {}, {}
    for name, key in keys.items():
        if key in known:
            digests[name] = known[key]
            continue
        try:
            digests[name] = hashlib.sha256(read_bytes(folder / name, inside=folder)).hexdigest()
        except UnreadableError:
            digests[name] = ""
            continue
        if key is not None:
            new[key] = digests[name]
    if new:
        _add(cache, new)
    return digests


def _key(path: Path) -> _Key | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino


def _known(cache: Path) -> dict[_Key | None, str]:
    with contextlib.suppress(sqlite3.Error, OSError, ValueError):  # the last of a text that is no longer UTF-8
        if cache.exists():
            with contextlib.closing(sqlite3.connect(cache)) as database:
                rows = database.execute("SELECT path, size, time, inode, digest FROM files")
                return {(path, size, time, inode): digest for path, size, time, inode, digest in rows}
    return {}


def _add(cache: Path, digests: dict[_Key, str]) -> None:
    with contextlib.suppress(sqlite3.Error, OSError, UnicodeError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(cache)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, time INTEGER, inode INTEGER, "
                "digest TEXT)"
            )
            rows = [(*key, digest) for key, digest in digests.items()]
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)
            database.commit()
