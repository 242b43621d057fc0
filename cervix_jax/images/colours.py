"""Colours of a decoded file: from any mode and profile to sRGB, black where the picture is transparent."""

import io

import numpy as np
from PIL import Image, ImageChops, ImageCms

from cervix_jax.images.files import UnreadableError

_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_SRGB = ImageCms.createProfile("sRGB")
_PROFILE_OF = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # the profiles that fit a mode of Pillow's


def to_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Converts a decoded picture to RGB.

    Returns:
      The picture, and whether a colour profile changed its colours.

    Raises:
      UnreadableError: its samples are integers of 32 bits or floats, of which no value is known to be white.
    """
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F"):
        raise UnreadableError("samples of which no value is known to be white")
    if image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    alpha = _convert(image, "RGBA").getchannel("A") if image.has_transparency_data else None
    colours = _convert(image, {"L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode, "RGB"))
    by_profile = _to_srgb(colours, profile) if profile else None
    rgb = by_profile or _convert(colours, "RGB")
    if alpha is not None:
        rgb = rgb.copy() if rgb is image else rgb
        rgb.paste((0, 0, 0), mask=ImageChops.invert(alpha))
    return rgb, by_profile is not None


def _convert(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # without Pillow's copy, which may be of 400 MB


def _to_8_bits(image: Image.Image) -> Image.Image:
    """The high bits of 12 or 16; Pillow would clip all but the darkest to white."""
    tags = getattr(image, "tag_v2", {})
    grey = (np.asarray(image) >> (tags.get(_BITS, (16,))[0] - 8)).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey)  # 0: zero is white


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """By the profile that a file brings; None if that is sRGB already, damaged or for another kind of picture."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        fits = source.profile.xcolor_space == _PROFILE_OF[image.mode]
        if not fits or "sRGB" in (source.profile.profile_description or ""):
            return None
        return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except Exception:  # a damaged profile is no reason to lose a picture
        return None
