"""Features of photographs, extracted by several processes and kept by content until a data set holds them.

Decoding is what costs, so each file is decoded once for all: colours, sharpness, near-duplicate signature and the JPEG
that the data set stores. Results are committed to an SQLite file as they come, so that a build that was killed resumes
where it was. Once the data set is written, its photographs are discarded here: their JPEGs are on disk once.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import multiprocessing
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Shaped
from tqdm import tqdm

from cervix_jax.errors import UserError
from cervix_jax.images import features, near_duplicates
from cervix_jax.images.decode import to_stored
from cervix_jax.images.files import UnreadableError, read_bytes
from cervix_jax.images.geometry import CropResize
from cervix_jax.progress import log

VERSION = 1  # of the features; raise it when they change, so that old numbers are not taken for new ones
MIN_PARALLEL = 64  # photographs; fewer are decoded by this process, since starting others would take longer

Source = Path | bytes

_DAMAGED = (  # error codes; the last two of a header that says what is not so
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT),
    *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY),
)
_WINDOW = 256  # results in flight, so that memory is bounded
_COLUMNS = "reason, jpeg, height, width, histograms, sharpness, signature"


@dataclasses.dataclass(frozen=True)
class FeatureRecord:
    """The features of one photograph; if `reason` is not '', it cannot be read and has no others."""

    reason: str = ""
    jpeg: bytes = b""
    original_size: tuple[int, int] = (0, 0)
    histograms: bytes = b""
    sharpness: float = 0.0
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """The features of many photographs, a row each.

    Attributes:
      names: given by the caller.
      digests: SHA-256 of the files; '' for those that could not be opened.
      reasons: why a photograph cannot be read, '' if it can; the numbers of those that cannot are zero.
      original_size: (height, width) in pixels, upright.
      histograms: `features.colour_histograms`.
      sharpness: `features.sharpness`.
      signatures: `near_duplicates.signature`.
      cache: the SQLite file, which holds the JPEGs.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    reasons: tuple[str, ...]
    original_size: Int32[np.ndarray, "n 2"]
    histograms: Float32[np.ndarray, "n 456"]
    sharpness: Float32[np.ndarray, "n"]
    signatures: Shaped[np.ndarray, "n"]
    cache: Path

    def jpegs(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The stored JPEG of each of the given rows, one in memory at a time."""
        with contextlib.closing(sqlite3.connect(self.cache)) as database:
            for i in indices:
                yield _select(database, "jpeg", self.digests[i])[0]


def extract(raw: bytes) -> FeatureRecord:
    """The features of a file's bytes; never raises for what is in them."""
    try:
        jpeg, original_size, photograph = to_stored(raw)
    except UnreadableError as error:
        return FeatureRecord(reason=str(error))
    image = CropResize(features.FEATURE_SIZE)(photograph)
    del photograph  # its memory serves what follows; to map more for each photograph took a fifth of the time
    return FeatureRecord(
        jpeg=jpeg,
        original_size=original_size,
        histograms=features.colour_histograms(image).tobytes(),
        sharpness=features.sharpness(image),
        signature=near_duplicates.signature(image).tobytes(),
    )


def extract_all(
    sources: Mapping[str, Source], cache: Path, *, inside: Path | None = None, processes: int | None = None
) -> FeatureTable:
    """The features of all photographs, of which only those that are not cached are decoded.

    Args:
      sources: files, or their bytes, by name.
      cache: SQLite file; made if missing.
      inside: folder that no file may lie outside of, by a link.
      processes: number of processes that decode; None for one per core.
    """
    try:
        return _extract_all(sources, cache, inside, processes or num_cores())
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:  # the latter of arrays of another size
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _DAMAGED:
            raise  # a full disk, another build
    log(f"{cache} is damaged: it is removed, and features are extracted again")
    cache.unlink()
    return _extract_all(sources, cache, inside, processes or num_cores())


def _extract_all(sources: Mapping[str, Source], cache: Path, inside: Path | None, processes: int) -> FeatureTable:
    with _open_cache(cache) as database:
        cached = frozenset(digest for (digest,) in database.execute("SELECT digest FROM measured"))
        if not sys.stderr.isatty():
            log(f"extracting features of {len(sources)} photographs")
        digests, unopened = {}, {}
        for name, digest, record in tqdm(
            _map(partial(read_and_extract, cached=cached, inside=inside), sources, processes),
            total=len(sources),
            desc="extracting features",
            disable=None,
        ):
            if digest is None:
                unopened[name] = record.reason
                continue
            digests[name] = digest
            if record is not None:
                _insert(database, digest, record)
                database.commit()
        return _collect(database, cache, list(sources), digests, unopened)


def insert(records: Iterable[tuple[str, FeatureRecord]], cache: Path) -> int:
    """Adds features that were extracted elsewhere, by the digest of the file; returns the number of photographs."""
    count = 0
    with _open_cache(cache) as database:
        for digest, record in records:
            _insert(database, digest, record)
            count += 1
        database.commit()
    return count


def discard(digests: Iterable[str], cache: Path) -> None:
    """Removes photographs that a data set holds, and gives their space back to the disk."""
    with contextlib.closing(sqlite3.connect(cache)) as database:
        database.executemany("DELETE FROM measured WHERE digest = ?", [(digest,) for digest in digests])
        database.commit()
        with contextlib.suppress(sqlite3.OperationalError):  # another build is writing; its own end will shrink it
            database.execute("VACUUM")


Result = tuple[str, str | None, FeatureRecord | None]  # name, digest (None: not opened), features (None: cached)


def read_and_extract(item: tuple[str, Source], cached: frozenset[str], inside: Path | None) -> Result:
    """Extracts the features of a named photograph unless its digest is cached; see `extract_all`."""
    name, source = item
    try:
        if name.encode(errors="replace").decode() != name:
            raise UnreadableError("a name that is not UTF-8, which an id has to be")
        raw = source if isinstance(source, bytes) else read_bytes(source, inside=inside)
    except UnreadableError as error:
        return name, None, FeatureRecord(reason=str(error))
    digest = hashlib.sha256(raw).hexdigest()
    return name, digest, None if digest in cached else extract(raw)


@contextlib.contextmanager
def _open_cache(cache: Path) -> Iterator[sqlite3.Connection]:
    """The cache, made if missing, without the features of another version."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(cache)) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS measured (digest TEXT PRIMARY KEY, version INTEGER, reason TEXT, jpeg BLOB, "
            "height INTEGER, width INTEGER, histograms BLOB, sharpness REAL, signature BLOB)"
        )
        database.execute("DELETE FROM measured WHERE version != ?", (VERSION,))
        database.commit()
        yield database


def _map(
    function: Callable[[tuple[str, Source]], Result], sources: Mapping[str, Source], processes: int
) -> Iterator[Result]:
    if processes == 1 or len(sources) < MIN_PARALLEL:
        yield from map(function, sources.items())
        return
    # Not forked: a process that has threads, as JAX and Grain make them, may hang after a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
        items = iter(sources.items())
        while window := list(itertools.islice(items, _WINDOW)):
            with _main_hidden():  # submitting starts the processes
                results = pool.map(function, window, chunksize=4)
            yield from results


def _end_with_parent() -> None:
    """Has this process end when the one that started it is killed; else it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a process of a pool

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keeps new processes from importing the user's script: they need nothing of it, and it would run again."""
    main: dict[str, Any] = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _insert(database: sqlite3.Connection, digest: str, record: FeatureRecord) -> None:
    r = record
    database.execute(
        f"INSERT OR REPLACE INTO measured (digest, version, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (digest, VERSION, r.reason, r.jpeg, *r.original_size, r.histograms, r.sharpness, r.signature),
    )


def _select(database: sqlite3.Connection, columns: str, digest: str) -> tuple[Any, ...]:
    row = database.execute(f"SELECT {columns} FROM measured WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        raise UserError("another build of the same photographs has just ended; rerun the same command")
    return row


def _collect(
    database: sqlite3.Connection, cache: Path, names: list[str], digests: Mapping[str, str], unopened: Mapping[str, str]
) -> FeatureTable:
    n = len(names)
    reasons = []
    sizes, sharpness = np.zeros((n, 2), np.int32), np.zeros(n, np.float32)
    histograms = np.zeros((n, features.NUM_FEATURES), np.float32)
    signatures = np.zeros(n, near_duplicates.SIGNATURE)
    for i, name in enumerate(names):
        if name in unopened:
            reasons.append(unopened[name])
            continue
        columns = "reason, height, width, histograms, sharpness, signature"
        reason, height, width, histogram, sharp, signature = _select(database, columns, digests[name])
        reasons.append(reason)
        if not reason:
            sizes[i], sharpness[i] = (height, width), sharp
            histograms[i] = np.frombuffer(histogram, np.float32)
            signatures[i] = np.frombuffer(signature, near_duplicates.SIGNATURE)[0]
    return FeatureTable(
        names=tuple(names),
        digests=tuple(digests.get(name, "") for name in names),
        reasons=tuple(reasons),
        original_size=sizes,
        histograms=histograms,
        sharpness=sharpness,
        signatures=signatures,
        cache=cache,
    )
