"""Everything that is computed from one photograph, once: by several processes, kept by content.

Decoding is what costs, so each photograph is decoded once for all: scores, near-duplicate signature and the JPEG that
the data set stores. Results are committed to an SQLite file as they come: a run that was killed goes on where it was,
and photographs that come later cost only themselves.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import multiprocessing
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Shaped
from tqdm import tqdm

from cervix_jax.images import features, near_duplicates
from cervix_jax.images.decode import STORED_SIZE, read_photograph, to_stored_jpeg
from cervix_jax.images.files import UnreadableError, read_bytes
from cervix_jax.images.geometry import CropResize

VERSION = 1  # of what is measured; raise it when that changes, so that old numbers are not taken for new

Source = Path | bytes

_FEW = 64  # fewer photographs than this are measured here: starting processes would take longer
_WINDOW = 256  # results in flight, so that memory is bounded


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of one photograph; only of one that can be read if `reason` is ''."""

    reason: str = ""
    jpeg: bytes = b""
    original_size: tuple[int, int] = (0, 0)
    histograms: bytes = b""
    sharpness: float = 0.0
    signature: bytes = b""


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """What is known of many photographs, in one order.

    Attributes:
      names: of the photographs.
      digests: SHA-256 of the files.
      reasons: why one cannot be read, '' if it can; the numbers of those that cannot are zero.
      original_size: (height, width) in pixels, upright.
      histograms: `features.colour_histograms`.
      sharpness: `features.sharpness`.
      signatures: `near_duplicates.signature`.
      cache: the SQLite file.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    reasons: tuple[str, ...]
    original_size: Int32[np.ndarray, "n 2"]
    histograms: Float32[np.ndarray, "n 456"]
    sharpness: Float32[np.ndarray, "n"]
    signatures: Shaped[np.ndarray, "n"]
    cache: Path

    def jpegs(self, indices: list[int]) -> Iterator[bytes]:
        """The JPEG that the data set stores, of one photograph after the other."""
        with contextlib.closing(sqlite3.connect(self.cache)) as database:
            for i in indices:
                yield database.execute("SELECT jpeg FROM measured WHERE digest = ?", (self.digests[i],)).fetchone()[0]


def measure(raw: bytes) -> Measured:
    """Measures the bytes of a file; never raises for what is in them."""
    try:
        jpeg, original_size = to_stored_jpeg(raw, STORED_SIZE)
        image = CropResize(features.FEATURE_SIZE)(read_photograph(jpeg))
    except UnreadableError as error:
        return Measured(reason=str(error))
    return Measured(
        jpeg=jpeg,
        original_size=original_size,
        histograms=features.colour_histograms(image).tobytes(),
        sharpness=features.sharpness(image),
        signature=near_duplicates.signature(image).tobytes(),
    )


def extract_all(
    sources: Mapping[str, Source], cache: Path, *, inside: Path | None = None, processes: int | None = None
) -> FeatureTable:
    """Measures photographs that the cache does not know, and returns all.

    Args:
      sources: files, or their bytes, by name.
      cache: SQLite file; made if missing.
      inside: folder that no file may lie outside of, by a link.
      processes: that decode; None for one a core.
    """
    with _opened(cache) as database:
        known = frozenset(digest for (digest,) in database.execute("SELECT digest FROM measured"))
        if not sys.stderr.isatty():
            print(f"measuring {len(sources)} photographs", file=sys.stderr, flush=True)
        digests, unopened = {}, {}
        for name, digest, measured in tqdm(
            _work(sources, partial(read_and_extract, known=known, inside=inside), processes or _cores()),
            total=len(sources),
            desc="measuring photographs",
            disable=None,
        ):
            if digest is None:
                unopened[name] = measured.reason
                continue
            digests[name] = digest
            if measured is not None:
                _insert(database, digest, measured)
                database.commit()
        return _collect(database, cache, list(sources), digests, unopened)


def keep(results: Iterable[tuple[str, Measured]], cache: Path) -> int:
    """Puts what was measured elsewhere into the cache, by digest; returns how many photographs those are."""
    count = 0
    with _opened(cache) as database:
        for digest, measured in results:
            _insert(database, digest, measured)
            count += 1
        database.commit()
    return count


@contextlib.contextmanager
def _opened(cache: Path) -> Iterator[sqlite3.Connection]:
    """The cache, made if missing, without what another version has measured."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(cache)) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS measured (digest TEXT PRIMARY KEY, version INTEGER, reason TEXT, jpeg BLOB, "
            "height INTEGER, width INTEGER, histograms BLOB, sharpness REAL, signature BLOB)"
        )
        database.execute("DELETE FROM measured WHERE version != ?", (VERSION,))
        database.commit()
        yield database


Result = tuple[str, str | None, Measured | None]  # name, digest (None: not opened), measured (None: known)


def _work(
    sources: Mapping[str, Source], one: Callable[[tuple[str, Source]], Result], processes: int
) -> Iterator[Result]:
    if processes == 1 or len(sources) < _FEW:
        yield from map(one, sources.items())
        return
    # Not forked: a process that has threads, as JAX and Grain make them, may hang after a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        items = iter(sources.items())
        while window := list(itertools.islice(items, _WINDOW)):
            with _main_hidden():  # submitting starts the processes
                results = pool.map(one, window, chunksize=4)
            yield from results


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


def read_and_extract(item: tuple[str, Source], known: frozenset[str], inside: Path | None) -> Result:
    """Measures a photograph unless its digest is known; see `extract_all`."""
    name, source = item
    try:
        if name.encode(errors="replace").decode() != name:
            raise UnreadableError("a name that is not UTF-8, which an id has to be")
        raw = source if isinstance(source, bytes) else read_bytes(source, inside=inside)
    except UnreadableError as error:
        return name, None, Measured(reason=str(error))
    digest = hashlib.sha256(raw).hexdigest()
    return name, digest, None if digest in known else measure(raw)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _insert(database: sqlite3.Connection, digest: str, measured: Measured) -> None:
    m = measured
    database.execute(
        "INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (digest, VERSION, m.reason, m.jpeg, *m.original_size, m.histograms, m.sharpness, m.signature),
    )


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
        query = "SELECT reason, height, width, histograms, sharpness, signature FROM measured WHERE digest = ?"
        reason, height, width, histogram, sharp, signature = database.execute(query, (digests[name],)).fetchone()
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
