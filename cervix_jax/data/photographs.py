"""Reads one photograph: bytes of unknown origin to an upright RGB array of the size that a network wants.

Preparing, training, evaluating and predicting all read photographs by these functions, so a network sees the same
pixels everywhere. One decoder (Pillow), a list of formats it may use, and a cap on pixels before any are decoded.
"""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import (  # the plugins register the formats that may be opened
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")  # JPEG includes cameras' multi-picture files
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_PIXELS = 100_000_000  # twice the largest phone camera's; a decoded RGB array is then at most 300 MB

_FILTER = Image.Resampling.BILINEAR  # antialiased in Pillow: its support grows with the reduction
_ORIENTATION = 0x0112  # EXIF tag

CLASS_NAMES = ("Type_1", "Type_2", "Type_3")


class UnreadableError(ValueError):
    """A file is not a photograph that can be read; the message is the reason, in a few words."""


def read_photograph(source: str | os.PathLike[str] | bytes, min_size: tuple[int, int] | None = None) -> Image.Image:
    """Decodes a photograph, upright (EXIF orientation applied), as RGB.

    Args:
      source: a path, or the bytes of a file.
      min_size: (height, width) in pixels that suffice. A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, as long
        as both sides stay at least this; several times faster for camera originals.

    Raises:
      UnreadableError: the file is empty, truncated, too large or no picture; or cannot be opened.
    """
    try:
        raw = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    if not raw:
        raise UnreadableError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
            if min_size is not None:
                _draft(image, min_size)
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged bytes
        raise UnreadableError(_reason(error)) from error


def crop_and_resize(
    image: Image.Image, size: tuple[int, int], *, crop: float = 1.0, resize: str = "stretch"
) -> UInt8[np.ndarray, "height width 3"]:
    """The centre of a photograph at the size that a network sees.

    Args:
      image: RGB.
      size: (height, width) of the result in pixels.
      crop: fraction of each side that is kept around the centre (report section 8).
      resize: 'stretch' changes the aspect if need be, as the report does; 'fit' keeps it and pads with black.
    """
    height, width = size
    if crop < 1:
        left, top = round(image.width * (1 - crop) / 2), round(image.height * (1 - crop) / 2)
        image = image.crop((left, top, max(left + 1, image.width - left), max(top + 1, image.height - top)))
    if resize == "stretch":
        return np.asarray(image.resize((width, height), _FILTER))
    scale = min(height / image.height, width / image.width)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image.resize(inner, _FILTER), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)


def to_stored_jpeg(raw: bytes, size: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """The bytes that a data set stores for a photograph: never upscaled, shrunk while both sides stay at least `size`.

    A JPEG that is small enough and upright is stored as it is, without a second lossy encoding.

    Args:
      raw: the bytes of a file.
      size: (height, width) in pixels; twice what networks see.

    Returns:
      JPEG bytes and the original (height, width), upright, in pixels.

    Raises:
      UnreadableError: as `read_photograph`.
    """
    image = read_photograph(raw, min_size=size)
    with Image.open(io.BytesIO(raw), formats=FORMATS) as header:
        orientation = header.getexif().get(_ORIENTATION, 1)
        plain = header.format == "JPEG" and header.mode == "RGB" and orientation in (0, 1)
        original = (header.height, header.width)
    if orientation in (5, 6, 7, 8):  # stored on its side
        original = original[::-1]
    scale = max(size[0] / original[0], size[1] / original[1])
    if scale >= 1 and plain:
        return raw, original
    if scale < 1:
        shrunk = (max(1, round(original[1] * scale)), max(1, round(original[0] * scale)))
        image = image.resize(shrunk, _FILTER)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95)
    return out.getvalue(), original


def find_photographs(folder: Path) -> list[Path]:
    """Every file below a folder that is named like a picture, in a fixed order (numbers by value).

    Raises:
      FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return sorted((p for p in found if p.is_file()), key=lambda p: (p.parent, _number(p.stem), p.name))


def _number(stem: str) -> int:
    return int(stem) if stem.isascii() and stem.isdigit() else 1 << 62


def _draft(image: Image.Image, min_size: tuple[int, int]) -> None:
    """Asks libjpeg for a reduced decoding that stays at least min_size, whichever way up the picture is."""
    side = max(min_size)  # before the EXIF rotation height and width may be swapped
    image.draft("RGB", (side, side))


def _reason(error: Exception) -> str:
    text = str(error)
    if "cannot identify" in text:
        return "not a picture"
    if "truncated" in text or "broken" in text.lower():
        return "truncated"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too many pixels; at most {MAX_PIXELS:,} are read"
    return text.splitlines()[0][:120] if text else type(error).__name__
