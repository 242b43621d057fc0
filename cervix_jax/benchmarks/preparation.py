"""Time to prepare a photograph, against the least that any decoder has to do.

That is libjpeg's entropy decoding: all coefficients have to be read even if few are used. It is approximated by
decoding at an eighth of the size, where one coefficient in 64 is transformed.
"""

import hashlib
import io
import platform
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
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
_NUM_DRAWN, _MAX_READ = 4, 8
_NUM_FILES = feature_cache.MIN_PARALLEL


class NoPhotographsError(UserError):
    """A folder holds no usable photograph."""


def prepare(repeats: int, images: Path | None = None, size: tuple[int, int] = CAMERA) -> dict[str, Any]:
    """Measures the preparation of single photographs in this process, and of many by one process and by two.

    Args:
      repeats: measurements of each photograph.
      images: folder of photographs; None to draw some.
      size: height and width in pixels of drawn ones.

    Raises:
      NoPhotographsError: there are none in `images`.
    """
    jpegs = read_folder(images) if images else [camera_jpeg(i, size) for i in range(_NUM_DRAWN)]
    return {
        "what": "prepare",
        "device": host_name(),
        "photographs": {
            "distinct": len(jpegs),
            "megabytes": float(np.mean([len(jpeg) for jpeg in jpegs])) / 1e6,
            "megapixels": float(np.mean([_megapixels(jpeg) for jpeg in jpegs])),
        },
        **time_single(jpegs, repeats),
        "processes": _time_processes(jpegs),
    }


def time_single(jpegs: Sequence[bytes], repeats: int) -> dict[str, Any]:
    """Times of preparing, of decoding, and of the least that a decoder has to do, for one photograph."""
    work = {"prepare": _prepare, "whole_decode": _decode_whole, "floor": _decode_least}
    times: dict[str, list[float]] = {name: [] for name in work}
    for jpeg in jpegs:
        for _ in range(repeats):  # in turn, so that other load on the machine affects all three
            for name, function in work.items():
                times[name].append(timing.seconds(partial(function, jpeg)))
    medians = {name: timing.summary(values)["median"] for name, values in times.items()}
    return {
        "milliseconds_per_photograph_and_core": timing.summary([1e3 * t for t in times["prepare"]]),
        "whole_decode_milliseconds": timing.summary([1e3 * t for t in times["whole_decode"]]),
        "ratio_to_whole_decode": medians["prepare"] / medians["whole_decode"],
        "limit": {"what": FLOOR, "milliseconds": timing.summary([1e3 * t for t in times["floor"]])},
        "ratio_to_limit": medians["prepare"] / medians["floor"],
        "fraction_of_limit": medians["floor"] / medians["prepare"],
    }


def read_folder(folder: Path) -> list[bytes]:
    """The first 8 usable JPEGs of a folder and its subfolders; other formats have no entropy decoding to compare with.

    Raises:
      NoPhotographsError: there is none, or no such folder.
    """
    if not folder.is_dir():
        raise NoPhotographsError(f"there is no folder {folder}")
    jpegs: list[bytes] = []
    for path in find_photographs(folder):
        try:
            jpeg = read_bytes(path)
        except UnreadableError:
            continue
        if jpeg.startswith(b"\xff\xd8") and not feature_cache.extract(jpeg).reason:
            jpegs.append(jpeg)
        if len(jpegs) == _MAX_READ:
            break
    if not jpegs:
        raise NoPhotographsError(f"{folder} holds no JPEG that can be read")
    return jpegs


def camera_jpeg(index: int, size: tuple[int, int] = CAMERA) -> bytes:
    """A synthetic photograph of a camera's size, with noise so that its file also has the size of a camera's."""
    height, width = size
    drawn = synthetic.draw(0, "train", index, size=(height // 5, width // 5)).image
    picture = np.asarray(Image.fromarray(drawn).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(index).standard_normal((height, width, 1), np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(picture + 5.5 * noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def host_name() -> str:
    """Number and kind of the cores that this process may use."""
    return f"{feature_cache.num_cores()} x {platform.processor() or platform.machine()}"


def _prepare(jpeg: bytes) -> None:
    hashlib.sha256(jpeg).hexdigest()
    feature_cache.extract(jpeg)


def _decode_whole(jpeg: bytes) -> None:
    Image.open(io.BytesIO(jpeg)).convert("RGB").load()


def _decode_least(jpeg: bytes) -> None:
    image = Image.open(io.BytesIO(jpeg))
    image.draft("RGB", (1, 1))
    image.load()


def _megapixels(jpeg: bytes) -> float:
    width, height = Image.open(io.BytesIO(jpeg)).size
    return width * height / 1e6


def _time_processes(jpegs: Sequence[bytes]) -> dict[str, Any]:
    """Photographs per second from files to the cache that `prepare` fills, by one process and by two.

    A second run, when all are cached, only starts processes and reads files. The efficiency is without that time, which
    does not matter for a data set of thousands.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, feature_cache.Source] = {}
        for i in range(_NUM_FILES):
            path = Path(folder) / f"{i}.jpg"
            path.write_bytes(jpegs[i % len(jpegs)] + i.to_bytes(4, "big"))  # equal files would be cached as one
            sources[path.name] = path
        (one, one_cached), (two, two_cached) = (_extract_twice(sources, Path(folder), count) for count in (1, 2))
    return {
        "photographs": _NUM_FILES,
        "one": {"photographs_per_second": _NUM_FILES / one, "seconds_when_all_are_known": one_cached},
        "two": {"photographs_per_second": _NUM_FILES / two, "seconds_when_all_are_known": two_cached},
        "efficiency_per_core": (one - one_cached) / (two - two_cached) / 2,
    }


def _extract_twice(sources: Mapping[str, feature_cache.Source], folder: Path, processes: int) -> tuple[float, float]:
    """Seconds of a first run, and of a second, when all photographs are cached."""
    cache = folder / f"{processes}.sqlite"
    extract = partial(feature_cache.extract_all, sources, cache, processes=processes)
    return timing.seconds(extract), timing.seconds(extract)
