"""One writer at a time: a lock on a file, which the operating system releases when its holder dies, however it dies.

It is BSD's `flock`, which Linux also honours between hosts on NFS; a file system without locks is used without.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cervix_jax.errors import UserError
from cervix_jax.progress import log


class LockedError(UserError):
    """Another process holds the lock; the message names it."""


@contextmanager
def exclusive(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a file.

    Args:
      path: of the file, which is made and stays; it says who holds the lock.
      what: that is locked, for messages.
      wait: until it is free; else another holder is an error.

    Raises:
      LockedError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not wait:
                raise LockedError(f"{what} is in use by {_holder(file)}; wait for it, or end it")
            log(f"waiting for {what}, which is in use by {_holder(file)}")
            _lock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield  # closing the file releases the lock


def _lock(file: IO[str], operation: int) -> bool:
    """Whether the lock was taken, or the file system has none."""
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        holder = json.load(file)
        return f"process {holder['process']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):  # it has not written yet
        return "another process"
