"""Decodes a photograph: bytes of unknown origin to an upright RGB picture.

Preparation, training, evaluation and prediction all decode with these functions, so a network sees the same pixels
everywhere. One decoder (Pillow), a list of formats it may use, and limits that are checked before any pixel is decoded.
The content of a file decides, not its name. Colours are sRGB; transparent pixels are black, as around a picture that
`fit` pads, so that colours hidden under a mask stay hidden; of several frames the first is read.
"""

import io
import logging
import os
import re
import threading
import warnings
from typing import NamedTuple

import numpy as np
from PIL import (  # the plugins register the formats that may be opened
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from cervix_jax.images.colours import to_rgb
from cervix_jax.images.files import UnreadableError, read_bytes

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # JPEG includes cameras' multi-picture files
MAX_PIXELS = 100_000_000  # twice what phone cameras usually have; reading that many takes 0.4 (PNG) to 1.8 GB (WebP)
MAX_SIDE = 65_500  # of what libjpeg writes; no photograph is a longer strip
MAX_SCANS = 100  # of a JPEG; progressive ones have about ten, and each costs a pass over all pixels
MAX_TILE = 4096  # side of a tile of a TIFF, which is decoded whole, unless the picture is larger

STORED_SIZE = (640, 480)  # height, width in pixels that data sets store: twice the report's 320 x 240

_FILTER = Image.Resampling.BILINEAR  # antialiased in Pillow: its support grows with the reduction
_ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 0x0112, 322, 323  # tags of EXIF and TIFF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a stuffed zero, a fill byte or a restart
_PILLOW_LOG = logging.getLogger("PIL")


def read_photograph(source: str | os.PathLike[str] | bytes, min_size: tuple[int, int] | None = None) -> Image.Image:
    """Decodes a photograph, upright (EXIF orientation applied), as RGB (sRGB, on black where it is transparent).

    Args:
      source: a path, or the bytes of a file.
      min_size: (height, width) in pixels that suffice. A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, as long
        as both sides stay at least this; several times faster for camera originals.

    Raises:
      UnreadableError: the file is empty, truncated, too large or no picture; or cannot be opened.
    """
    return _decode(source if isinstance(source, bytes) else read_bytes(source), min_size).image


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """What `read_photograph` makes of the file that an image was opened from; the image is left as it is.

    Raises:
      UnreadableError: the file is damaged, or of no value of its samples is known to be white.
    """
    try:
        with _QUIET:
            rgb, _, _ = _upright(image)
    except UnreadableError:
        raise
    except Exception as error:  # Pillow decodes when pixels are asked for
        raise UnreadableError(_reason(error)) from error
    rgb = rgb.copy() if rgb is image else rgb
    rgb.info = {}
    return rgb


class StoredPhotograph(NamedTuple):
    """A photograph as data sets store it.

    Attributes:
      jpeg: the stored bytes.
      original_size: (height, width) of the file in pixels, upright.
      image: the RGB pixels that `read_photograph(jpeg)` returns.
    """

    jpeg: bytes
    original_size: tuple[int, int]
    image: Image.Image


def to_stored(raw: bytes, size: tuple[int, int] = STORED_SIZE) -> StoredPhotograph:
    """Shrinks a photograph as long as both sides stay at least `size`, and encodes it as JPEG; never enlarges it.

    A JPEG that is small enough, upright and sRGB is stored as it is, without a second lossy encoding, and decoded once.
    Any other is decoded once, and what it was encoded as once more, since the pixels that networks see are those.

    Args:
      raw: the bytes of a file.
      size: (height, width) in pixels; twice what networks see.

    Raises:
      UnreadableError: as `read_photograph`.
    """
    image, original_size, as_is = _decode(raw, size)
    scale = max(size[0] / original_size[0], size[1] / original_size[1])
    if scale >= 1 and as_is:
        return StoredPhotograph(raw, original_size, image)
    if scale < 1:
        shrunk = (max(1, round(original_size[1] * scale)), max(1, round(original_size[0] * scale)))
        image = image.resize(shrunk, _FILTER)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95)
    return StoredPhotograph(out.getvalue(), original_size, read_photograph(out.getvalue()))


class _Decoded(NamedTuple):
    image: Image.Image  # RGB, upright, without metadata
    size: tuple[int, int]  # height and width, upright, before any reduction
    as_is: bool  # a JPEG whose bytes mean these colours to decoders that know neither EXIF nor profiles


def _decode(raw: bytes, min_size: tuple[int, int] | None) -> _Decoded:
    if not raw:
        raise UnreadableError("empty file")
    try:
        with _QUIET:
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
            _check_limits(image, raw)
            stored = image.size
            if min_size is not None:
                height, width = min_size if _orientation(image) < 5 else min_size[::-1]  # 5 to 8: stored on its side
                image.draft("RGB", (width, height))
            rgb, orientation, converted = _upright(image)
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged bytes
        raise UnreadableError(_reason(error)) from error
    rgb.info = {}  # or comments and profiles of the file would be written with the next
    as_is = image.format == "JPEG" and image.mode == "RGB" and orientation not in _UPRIGHT and not converted
    return _Decoded(rgb, stored if orientation >= 5 else stored[::-1], as_is)


def _upright(image: Image.Image) -> tuple[Image.Image, int, bool]:
    """RGB pixels, upright; the orientation that was stored; whether a colour profile changed the colours."""
    image.load()
    orientation = _orientation(image)
    rgb, converted = to_rgb(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb, orientation, converted


def _check_limits(image: Image.Image, raw: bytes) -> None:
    """Refuses a picture, of which only the header is read so far, that would take too much memory or time."""
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
    if max(image.size) > MAX_SIDE:
        raise UnreadableError(f"{image.width} x {image.height} pixels; a side has at most {MAX_SIDE:,}")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if tags.get(_TILE_WIDTH, 0) > max(image.width, MAX_TILE) or tags.get(_TILE_HEIGHT, 0) > max(image.height, MAX_TILE):
        raise UnreadableError(f"tiles much larger than its {image.width} x {image.height} pixels")
    if image.format in ("JPEG", "MPO") and _num_scan_markers(raw) > MAX_SCANS and _num_scans(raw) > MAX_SCANS:
        raise UnreadableError(f"a JPEG of more than {MAX_SCANS} scans")


def _num_scan_markers(jpeg: bytes) -> int:
    """Number of bytes that may begin a scan: at least `_num_scans`, and eight times as fast as `jpeg.count`."""
    values = np.frombuffer(jpeg, np.uint8)
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA)))


def _num_scans(jpeg: bytes) -> int:
    """Number of scans of the first picture of a JPEG; thumbnails and films inside and after it do not count."""
    position, scans = 2, 0
    while match := _JPEG_MARKER.search(jpeg, position):
        marker, position = jpeg[match.end() - 1], match.end()
        if marker == 0xD9:  # the end
            break
        scans += marker == 0xDA
        if marker not in (0x01, 0xD8):  # all others begin with their length
            position += int.from_bytes(jpeg[position : position + 2])
    return scans


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where there is none, and where the EXIF is damaged, which is no reason to lose a picture."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as many kinds as there are ways to damage it
        return 1
    return orientation if orientation in _UPRIGHT else 1


class _Quiet:
    """Silences what Pillow warns of and logs about damaged files, while any thread reads one.

    The reason of a refusal says enough. Threads that use `warnings.catch_warnings` by themselves restore
    each other's filters.
    """

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._level = _PILLOW_LOG.level
                _PILLOW_LOG.setLevel(logging.CRITICAL + 1)
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._catch.__exit__(None, None, None)
                _PILLOW_LOG.setLevel(self._level)


_QUIET = _Quiet()


def _reason(error: Exception) -> str:
    text = str(error)
    if "cannot identify" in text:
        return "not a picture"
    if "truncated" in text.lower() or "broken" in text.lower():
        return "truncated"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels; at most {MAX_PIXELS:,} are read"
    return text.splitlines()[0][:120] if text else type(error).__name__
