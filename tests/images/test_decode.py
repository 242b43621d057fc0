"""Reading: what is a photograph, which way up it is, and what a network is shown."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import UnreadableError, find_photographs
from cervix_jax.images.geometry import CropResize


def encoded(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def gradient(height, width):
    """A picture in which every place can be told from every other."""
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([255 * rows // height, 255 * columns // width, rows * 0 + 90], axis=-1).astype(np.uint8)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_exif_orientations_come_out_upright(orientation):
    upright = gradient(40, 24)
    # What a camera stores: the inverse of the transposition that the tag asks for.
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for transposition in undo.get(orientation, []):
        stored = stored.transpose(transposition)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_photograph(encoded(stored, exif=exif))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(upright))
    _, size, _ = to_stored(encoded(stored, "JPEG", exif=exif), (640, 480))
    assert size == (40, 24)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    form = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    image = read_photograph(encoded(gradient(8, 6).convert("I;16" if mode == "I;16" else mode), form))
    assert image.mode == "RGB"
    assert image.size == (6, 8)


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


def test_crop_keeps_the_centre():
    image = Image.new("RGB", (100, 200))
    image.paste((255, 0, 0), (25, 50, 75, 150))  # the central half of each side
    assert (CropResize((20, 10), crop=0.5)(image) == [255, 0, 0]).all()
    assert not (CropResize((20, 10), crop=0.6)(image) == [255, 0, 0]).all()


def test_fit_keeps_the_aspect_and_stretch_fills():
    square = Image.new("RGB", (50, 50), (255, 255, 255))
    assert (CropResize((40, 20), resize="stretch")(square) == 255).all()
    fitted = CropResize((40, 20), resize="fit")(square)
    assert (fitted[10:30] == 255).all()
    assert (fitted[:10] == 0).all()
    assert (fitted[30:] == 0).all()


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


def test_photographs_are_found_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.jpg", "9.JPG", "b.png", ".hidden.jpg", "notes.txt", "ä ö.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_photographs(tmp_path)] == ["9.JPG", "10.jpg", "b.png", "ä ö.jpeg"]
