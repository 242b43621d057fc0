"""Reading: what is a photograph, which way up it is, and what a network is shown."""

import contextlib
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cervix_jax.images import decode
from cervix_jax.images.decode import read_photograph, to_stored, to_upright_rgb
from cervix_jax.images.files import UnreadableError
from cervix_jax.images.geometry import CropResize
from tests.images.encodings import encoded, flat, gradient, icc_profile, with_orientation


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    form = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    image = read_photograph(encoded(gradient(8, 6).convert("I;16" if mode == "I;16" else mode), form))
    assert image.mode == "RGB"
    assert image.size == (6, 8)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {"icc_profile": icc_profile(b"RGB ", 1.8)}),
        *[("JPEG", mode, {}) for mode in ("L", "CMYK")],
        *[("PNG", mode, {}) for mode in ("RGBA", "LA", "P", "1")],
        ("PNG", "RGB", {"transparency": (0, 0, 90)}),
        *[("TIFF", mode, {}) for mode in ("RGB", "CMYK", "LAB", "I;16")],
    ],
)
def test_an_opened_image_is_what_its_file_is_and_stays_as_it_was(form, mode, options, orientation):
    raw = with_orientation(gradient().convert(mode), orientation, form, **options)
    opened, before = Image.open(io.BytesIO(raw)), Image.open(io.BytesIO(raw))
    rgb = to_upright_rgb(opened)
    np.testing.assert_array_equal(rgb, read_photograph(raw))
    assert rgb.info == {}
    assert (opened.tobytes(), opened.info) == (before.tobytes(), before.info)


def test_opened_images_that_cannot_be_read_are_refused():
    with pytest.raises(UnreadableError, match="truncated"):
        to_upright_rgb(Image.open(io.BytesIO(encoded(gradient(90, 70), "JPEG")[:700])))
    with pytest.raises(UnreadableError, match="known to be white"):
        to_upright_rgb(gradient().convert("F"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"this is a text", "not a picture"),
        (encoded(gradient(90, 70), "JPEG")[:700], "truncated"),
        (encoded(gradient(90, 70), "PNG")[:150], "truncated"),
    ],
)
def test_damaged_files_are_refused_with_a_reason(raw, reason):
    with pytest.raises(UnreadableError, match=reason):
        read_photograph(raw)


def test_missing_file_is_refused_with_a_reason(tmp_path):
    with pytest.raises(UnreadableError, match="No such file"):
        read_photograph(tmp_path / "none.jpg")


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    with pytest.raises(UnreadableError, match="11 x 10 pixels"):
        read_photograph(encoded(gradient(10, 11)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bytes_crash_the_reader(data):
    raw = bytearray(
        encoded(gradient(20, 16), data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])))
    )
    for _ in range(data.draw(st.integers(1, 12))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with contextlib.suppress(UnreadableError):
        assert read_photograph(bytes(raw)).mode == "RGB"


def test_reduced_decoding_keeps_enough_pixels_and_the_picture():
    large = gradient(1600, 1200)
    raw = encoded(large, "JPEG", quality=95)
    reduced = read_photograph(raw, min_size=(320, 240))
    assert 320 <= reduced.height < 1600
    whole = CropResize((320, 240))(read_photograph(raw)).astype(int)
    assert np.abs(CropResize((320, 240))(reduced).astype(int) - whole).max() <= 4


def test_small_upright_jpegs_are_stored_byte_for_byte():
    raw = encoded(gradient(512, 512), "JPEG", quality=80)
    assert to_stored(raw, (640, 480))[:2] == (raw, (512, 512))


def test_large_pictures_are_stored_smaller_but_large_enough():
    stored, original, _ = to_stored(encoded(gradient(1300, 1000), "JPEG"), (640, 480))
    with Image.open(io.BytesIO(stored)) as image:
        assert original == (1300, 1000)
        assert image.height >= 640
        assert image.width >= 480
        assert image.height == 640 or image.width == 480


def test_scans_are_those_of_the_first_picture(monkeypatch):
    """Neither films that phones append count, nor bytes in a comment that look like a scan."""
    raw = encoded(gradient(), "JPEG", progressive=True)
    film, scans = raw + b"\xff\xda" * 1000, raw.count(b"\xff\xda")
    monkeypatch.setattr(decode, "MAX_SCANS", scans)
    assert read_photograph(film).size == (64, 48)
    monkeypatch.setattr(decode, "MAX_SCANS", scans - 1)
    with pytest.raises(UnreadableError, match=f"more than {scans - 1} scans"):
        read_photograph(film)
    monkeypatch.setattr(decode, "MAX_SCANS", 1)
    assert read_photograph(encoded(gradient(), "JPEG", comment=b"\xff\xda" * 1000)).size == (64, 48)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_format_and_reduced_decoding(form, orientation):
    upright = gradient(480, 320)
    raw = with_orientation(upright, orientation, form, **({"lossless": True} if form == "WEBP" else {}))
    tolerance = 8 if form in ("JPEG", "MPO") else 0
    whole = np.asarray(read_photograph(raw)).astype(int)
    assert whole.shape == (480, 320, 3)
    assert np.abs(whole - np.asarray(upright)).max() <= tolerance
    reduced = read_photograph(raw, min_size=(120, 80))
    if form in ("JPEG", "MPO"):
        assert reduced.size == (80, 120)
    small = np.asarray(upright.resize(reduced.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(reduced) - small).max() <= 8
    stored, size, _ = to_stored(raw, (120, 80))
    assert size == (480, 320)
    assert np.abs(np.asarray(read_photograph(stored)) - np.asarray(upright.resize((80, 120)))).max() <= 255
    assert read_photograph(stored).size == (80, 120)


@pytest.mark.parametrize(
    "exif", [b"nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x09" * 9]
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_loses_no_picture(exif, form):
    raw = encoded(gradient(), form, exif=exif)
    assert read_photograph(raw).size == (64, 48)
    assert to_stored(raw, (640, 480))[1] == (48, 64)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_orientations_that_do_not_exist_turn_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(gradient(), "JPEG", exif=exif)
    assert to_stored(raw, (640, 480))[:2] == (raw, (48, 64))


def test_a_long_comment_is_not_carried_into_what_is_stored():
    raw = encoded(flat((1, 2, 3)), "GIF", comment=b"x" * 70_000)  # longer than a JPEG can hold
    assert Image.open(io.BytesIO(to_stored(raw, (640, 480))[0])).info.get("comment") is None


@pytest.mark.parametrize("suffix", ["png", "tiff", "gif", "jpeg"])
def test_what_a_file_holds_decides_not_its_name(tmp_path, suffix):
    path = tmp_path / f"wrong.{suffix}"
    path.write_bytes(encoded(gradient(), "WEBP", lossless=True))
    np.testing.assert_array_equal(np.asarray(read_photograph(path)), np.asarray(gradient()))


def test_warnings_of_pillow_neither_show_nor_refuse_and_filters_stay(recwarn):
    raw = encoded(
        gradient(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x12\x01\x02\0\xff\0\0\0\xff\xff\xff\x0f"
    )
    with pytest.warns(UserWarning):  # noqa: PT030 (any)
        Image.open(io.BytesIO(raw)).getexif().get(0x0112)
    recwarn.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as threads:
            shapes = {image.size for image in threads.map(read_photograph, [raw] * 100)}
        assert warnings.filters == before
    assert shapes == {(64, 48)}
    assert not recwarn.list
