"""Colours are those that a file means: modes, depths, transparency, frames and profiles."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import UnreadableError
from tests.images.encodings import DISPLAY_P3, SRGB_D50, encoded, flat, gradient, icc_profile, pixel, png, srgb_of


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(
            encoded(Image.fromarray(np.full((16, 16), 0x40FF, np.uint16))), (64, 64, 64), id="16-bit grey PNG"
        ),
        pytest.param(
            encoded(Image.fromarray(np.full((16, 16), 0x40FF, np.uint16)), "TIFF"), (64, 64, 64), id="16-bit grey TIFF"
        ),
        pytest.param(
            encoded(Image.fromarray(np.full((16, 16), 0x40FF, np.uint16)), "TIFF", tiffinfo={262: 0}),
            (191, 191, 191),
            id="16-bit grey TIFF, zero is white",
        ),
        pytest.param(encoded(flat(77, "L"), "JPEG"), (77, 77, 77), id="grey JPEG"),
        pytest.param(encoded(flat(1, "1")), (255, 255, 255), id="black and white PNG"),
        pytest.param(encoded(flat((0, 255, 255, 0), "CMYK"), "JPEG"), (254, 0, 0), id="Adobe's inverted CMYK JPEG"),
        pytest.param(encoded(flat((0, 255, 255, 0), "CMYK"), "TIFF"), (255, 0, 0), id="CMYK TIFF"),
        pytest.param(
            encoded(flat((200, 100, 50)).convert("P", palette=Image.Palette.ADAPTIVE)), (200, 100, 50), id="P"
        ),
        pytest.param(encoded(flat((200, 100, 50, 0), "RGBA")), (0, 0, 0), id="hidden colour"),
        pytest.param(encoded(flat((200, 100, 50, 128), "RGBA")), (100, 50, 25), id="half transparent"),
        pytest.param(encoded(flat((200, 100, 50, 128), "RGBA"), "WEBP", lossless=True), (100, 50, 25), id="WebP alpha"),
        pytest.param(encoded(flat((200, 100, 50, 128), "RGBA"), "TIFF"), (100, 50, 25), id="TIFF alpha"),
        pytest.param(encoded(flat((200, 0), "LA")), (0, 0, 0), id="hidden grey"),
        pytest.param(encoded(flat((200, 100, 50)), transparency=(200, 100, 50)), (0, 0, 0), id="transparent colour"),
        pytest.param(encoded(flat(3, "P"), transparency=3), (0, 0, 0), id="transparent entry of a palette"),
        pytest.param(encoded(flat(0, "P"), transparency=b"\0\xff"), (0, 0, 0), id="palette with alphas"),
        pytest.param(
            encoded(flat((200, 100, 50)), "JPEG", progressive=True, quality=95), (200, 100, 50), id="progressive"
        ),
        pytest.param(
            encoded(flat((250, 0, 0)), "GIF", save_all=True, append_images=[flat((0, 250, 0))]), (250, 0, 0), id="GIF"
        ),
        pytest.param(
            encoded(flat((250, 0, 0)), "PNG", save_all=True, append_images=[flat((0, 250, 0))]), (250, 0, 0), id="APNG"
        ),
        pytest.param(
            encoded(flat((250, 0, 0)), "WEBP", save_all=True, append_images=[flat((0, 250, 0))], lossless=True),
            (250, 0, 0),
            id="animated WebP",
        ),
        pytest.param(
            encoded(flat((250, 0, 0)), "TIFF", save_all=True, append_images=[flat((0, 250, 0))]),
            (250, 0, 0),
            id="TIFF of pages",
        ),
        pytest.param(
            encoded(flat((250, 0, 0)), "MPO", save_all=True, append_images=[flat((0, 250, 0))]), (251, 0, 0), id="MPO"
        ),
    ],
)
def test_colours_are_those_that_the_file_means(raw, expected):
    assert np.abs(np.subtract(pixel(raw), expected)).max() <= 2, (pixel(raw), expected)
    stored, size, _ = to_stored(raw, (16, 16))
    assert size == (16, 16)
    assert np.abs(np.subtract(pixel(stored), pixel(raw))).max() <= 3


def test_16_bit_rgb_png_keeps_its_high_bytes():
    row = b"\0" + struct.pack(">3H", 0x40FF, 0x8000, 0xFFFF) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    assert pixel(png((b"IHDR", header), (b"IDAT", zlib.compress(row * 16)))) == (64, 128, 255)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_samples_without_a_known_white_are_refused(mode):
    with pytest.raises(UnreadableError, match="white"):
        read_photograph(encoded(gradient().convert("L").convert(mode), "TIFF"))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_wide_colours_become_srgb(form):
    color = (200, 120, 100)
    expected = srgb_of(color, DISPLAY_P3, 2.2)
    assert np.abs(expected - color).max() > 8  # the profile matters
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(form, {})
    raw = encoded(flat(color), form, icc_profile=icc_profile(b"RGB ", 2.2), **options)
    np.testing.assert_allclose(pixel(raw), expected, atol=3)
    # What is stored has no profile, and the colours of sRGB: a JPEG is not kept as it is.
    stored, _, _ = to_stored(raw, (640, 480))
    assert "icc_profile" not in Image.open(io.BytesIO(stored)).info
    np.testing.assert_allclose(pixel(stored), expected, atol=4)


def test_wide_colours_under_alpha_and_grey_profiles_become_srgb():
    raw = encoded(flat((200, 120, 100, 255), "RGBA"), icc_profile=icc_profile(b"RGB ", 2.2))
    np.testing.assert_allclose(pixel(raw), srgb_of((200, 120, 100), DISPLAY_P3, 2.2), atol=3)
    linear = encoded(flat(55, "L"), icc_profile=icc_profile(b"GRAY", 1.0))
    np.testing.assert_allclose(pixel(linear), srgb_of((55, 55, 55), SRGB_D50, 1.0), atol=3)


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        icc_profile(b"RGB ", 2.2)[:200],
        icc_profile(b"GRAY", 1.0),
        icc_profile(b"RGB ", 2.2).replace(b"rXYZ", b"none"),
        icc_profile(b"RGB ", 1.0, name=b"sRGB, it says"),
    ],
    ids=["text", "truncated", "of grey", "without red", "sRGB"],
)
def test_profiles_that_do_not_apply_change_nothing(profile):
    raw = encoded(flat((200, 120, 100)), "JPEG", icc_profile=profile, quality=95)
    assert np.abs(np.subtract(pixel(raw), (200, 120, 100))).max() <= 2
    assert to_stored(raw, (640, 480))[0] == raw


@settings(max_examples=40)
@given(color=st.tuples(*[st.integers(0, 255)] * 4))
def test_transparency_darkens_in_proportion(color):
    expected = np.array(color[:3]) * color[3] / 255
    np.testing.assert_allclose(pixel(encoded(flat(color, "RGBA"))), expected, atol=1)
