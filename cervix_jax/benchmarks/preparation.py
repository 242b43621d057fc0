"""What preparing a photograph costs, against the least that any reader of it has to do.

That floor is libjpeg's entropy decoding: every coefficient has to be read even where few are used. It is approximated
by decoding at an eighth of the size, where one coefficient in 64 is transformed.
"""

import hashlib
import io
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cervix_jax.benchmarks import timing
from cervix_jax.datasets import feature_cache
from cervix_jax.errors import UserError
from cervix_jax.images import synthetic
from cervix_jax.images.files import UnreadableError, find_photographs, read_bytes

CAMERA = (4000, 3000)  # height, width in pixels: 12 megapixels
FLOOR = "libjpeg's entropy decoding, approximated by a decode at 1/8 of the size"
_PICTURES = 4
_MANY = 64  # photographs that are measured by processes; as few as `feature_cache` starts processes for


class NoPhotographsError(UserError):
    """A folder holds no photograph that can be measured."""


def prepare(repeats: int, images: Path | None = None, size: tuple[int, int] = CAMERA) -> dict[str, Any]:
    """Everything that is done with one photograph, in this process; and many, by one process and by two.

    Args:
      repeats: times that each photograph is measured.
      images: folder of photographs; None to draw some.
      size: height and width in pixels of drawn ones.

    Raises:
      NoPhotographsError: there are none in `images`.
    """
    raws = read_folder(images) if images else [camera_jpeg(i, size) for i in range(_PICTURES)]
    work = {"prepare": _prepare, "whole_decode": _decode_whole, "floor": _decode_least}
    times: dict[str, list[float]] = {name: [] for name in work}
    for raw in raws:
        for _ in range(repeats):  # by turns, so that what else the machine does disturbs all alike
            for name, one in work.items():
                start = time.perf_counter()
                one(raw)
                times[name].append(time.perf_counter() - start)
    medians = {name: timing.summary(values)["median"] for name, values in times.items()}
    return {
        "what": "prepare",
        "device": host_name(),
        "photographs": {
            "distinct": len(raws),
            "megabytes": float(np.mean([len(raw) for raw in raws])) / 1e6,
            "megapixels": float(np.mean([_megapixels(raw) for raw in raws])),
        },
        "milliseconds_per_photograph_and_core": timing.summary([1e3 * t for t in times["prepare"]]),
        "whole_decode_milliseconds": timing.summary([1e3 * t for t in times["whole_decode"]]),
        "ratio_to_whole_decode": medians["prepare"] / medians["whole_decode"],
        "limit": {"what": FLOOR, "milliseconds": timing.summary([1e3 * t for t in times["floor"]])},
        "ratio_to_limit": medians["prepare"] / medians["floor"],
        "fraction_of_limit": medians["floor"] / medians["prepare"],
        "processes": _by_processes(raws),
    }


def read_folder(folder: Path) -> list[bytes]:
    """The first photographs of a folder and its subfolders that can be measured."""
    if not folder.is_dir():
        raise NoPhotographsError(f"there is no folder {folder}")
    raws: list[bytes] = []
    for path in find_photographs(folder):
        try:
            raw = read_bytes(path)
        except UnreadableError:
            continue
        if not feature_cache.extract(raw).reason:
            raws.append(raw)
        if len(raws) == 2 * _PICTURES:
            break
    if not raws:
        raise NoPhotographsError(f"{folder} holds no photograph that can be read")
    return raws


def camera_jpeg(index: int, size: tuple[int, int] = CAMERA) -> bytes:
    """A drawn photograph as large as a camera's, with noise so that its file is as large too."""
    height, width = size
    drawn = synthetic.draw(0, "train", index, size=(height // 5, width // 5)).image
    picture = np.asarray(Image.fromarray(drawn).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(index).standard_normal((height, width, 1), np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(picture + 5.5 * noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def host_name() -> str:
    """How many cores of what kind this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} x {platform.processor() or platform.machine()}"


def _prepare(raw: bytes) -> None:
    hashlib.sha256(raw).hexdigest()
    feature_cache.extract(raw)


def _decode_whole(raw: bytes) -> None:
    Image.open(io.BytesIO(raw)).convert("RGB").load()


def _decode_least(raw: bytes) -> None:
    image = Image.open(io.BytesIO(raw))
    image.draft("RGB", (1, 1))
    image.load()


def _megapixels(raw: bytes) -> float:
    width, height = Image.open(io.BytesIO(raw)).size
    return width * height / 1e6


def _by_processes(raws: list[bytes]) -> dict[str, Any]:
    """Photographs a second from files to the database that `prepare` fills, by one process and by two.

    What a second run takes, when all are known, is the starting of processes and the reading of files; the efficiency
    is that without it, since a data set of thousands hardly notices.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, feature_cache.Source] = {}
        for i in range(_MANY):
            path = Path(folder) / f"{i}.jpg"
            path.write_bytes(raws[i % len(raws)] + i.to_bytes(4, "big"))  # or equal files would be one photograph
            sources[path.name] = path
        (one, one_known), (two, two_known) = (_measure_twice(sources, Path(folder), count) for count in (1, 2))
    return {
        "photographs": _MANY,
        "one": {"photographs_per_second": _MANY / one, "seconds_when_all_are_known": one_known},
        "two": {"photographs_per_second": _MANY / two, "seconds_when_all_are_known": two_known},
        "efficiency_per_core": (one - one_known) / (two - two_known) / 2,
    }


def _measure_twice(sources: Mapping[str, feature_cache.Source], folder: Path, processes: int) -> tuple[float, float]:
    """Seconds of the first time, and of a second, when everything is known."""
    cache = folder / f"{processes}.sqlite"

    def measure() -> None:
        feature_cache.extract_all(sources, cache, processes=processes)

    return timing.seconds(measure), timing.seconds(measure)
