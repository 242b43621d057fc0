"""Pictures that are unusual, damaged or meant to harm: read rightly or refused with a reason, in little memory."""

import csv
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cervix_jax
from cervix_jax.datasets import builder
from cervix_jax.images import decode
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import UnreadableError, find_photographs, read_bytes
from cervix_jax.inference.prediction_files import predict_folder
from cervix_jax.labels import CLASS_NAMES
from tests.inference.runs_of_nothing import Stub

MEMORY = 512 << 20  # bytes that a reading process may take beyond what its imports took
UPRIGHT_OF = decode._UPRIGHT


def encoded(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def drawn(height=48, width=64):
    """A picture in which every place can be told from every other."""
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([255 * rows // height, 255 * columns // width, rows * 0 + 90], axis=-1).astype(np.uint8)
    )


def flat(color, mode="RGB"):
    return Image.new(mode, (16, 16), color)


def pixel(raw):
    return read_photograph(raw).getpixel((8, 8))


# --- Colours ---------------------------------------------------------------------------------------------------


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
        read_photograph(encoded(drawn().convert("L").convert(mode), "TIFF"))


DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))  # XYZ at D50
SRGB_D50 = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def icc_profile(space, gamma, colorants=DISPLAY_P3, name=b"of a test"):
    """A display profile of the second version: one gamma, and the XYZ of the three primaries if it has colours."""

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + bytes(78)
    tags = {b"desc": description, b"wtpt": xyz((0.9642, 1, 0.8249)), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, values in zip((b"r", b"g", b"b"), colorants, strict=True):
            tags |= {letter + b"XYZ": xyz(values), letter + b"TRC": curve}
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + table + body


def srgb_of(color, colorants, gamma):
    linear = np.linalg.solve(np.transpose(SRGB_D50), np.transpose(colorants) @ (np.array(color) / 255) ** gamma)
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


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


# --- Metadata --------------------------------------------------------------------------------------------------


def with_orientation(image, orientation, form, **options):
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    stored = image.transpose(UPRIGHT_OF[undo]) if orientation in UPRIGHT_OF else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, form, exif=exif, **options)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_format_and_reduced_decoding(form, orientation):
    upright = drawn(480, 320)
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
    raw = encoded(drawn(), form, exif=exif)
    assert read_photograph(raw).size == (64, 48)
    assert to_stored(raw, (640, 480))[1] == (48, 64)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_orientations_that_do_not_exist_turn_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(drawn(), "JPEG", exif=exif)
    assert to_stored(raw, (640, 480))[:2] == (raw, (48, 64))


def test_a_long_comment_is_not_carried_into_what_is_stored():
    raw = encoded(flat((1, 2, 3)), "GIF", comment=b"x" * 70_000)  # longer than a JPEG can hold
    assert Image.open(io.BytesIO(to_stored(raw, (640, 480))[0])).info.get("comment") is None


@pytest.mark.parametrize("suffix", ["png", "tiff", "gif", "jpeg"])
def test_what_a_file_holds_decides_not_its_name(tmp_path, suffix):
    path = tmp_path / f"wrong.{suffix}"
    path.write_bytes(encoded(drawn(), "WEBP", lossless=True))
    np.testing.assert_array_equal(np.asarray(read_photograph(path)), np.asarray(drawn()))


# --- Bombs -----------------------------------------------------------------------------------------------------


def png(*chunks):
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_with(name, data):
    header = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    return png((b"IHDR", header), (name, data), (b"IDAT", zlib.compress(bytes(17 * 16))))


def patched(raw, at, data):
    return raw[:at] + data + raw[at + len(data) :]


def tiff(width, height, data, **places):
    """A grey TIFF of one deflated strip or tile; `places` are the tags of its layout, by number."""
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1} | {int(k[1:]): v for k, v in places.items()}
    offset, length = (324, 325) if 322 in tags else (273, 279)
    tags |= {offset: 8 + 2 + 12 * (len(tags) + 2) + 4, length: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def bombs():
    """Files of at most a few megabytes, and a pattern of why each is refused; None for what is read."""
    many = "too many pixels|at most 100,000,000|not a picture"
    jpeg = encoded(drawn(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    gif = encoded(Image.new("P", (16, 16)), "GIF")
    webp = encoded(drawn(), "WEBP", save_all=True, append_images=[flat((3, 2, 1)).resize((64, 48))])
    canvas = webp.index(b"VP8X") + 12
    zeros = zlib.compress(bytes(80_000_000))
    progressive = encoded(Image.new("L", (6000, 6000)), "JPEG", progressive=True)
    scan = progressive.index(b"\xff\xda")
    first = progressive[scan : scan + 2 + int.from_bytes(progressive[scan + 2 : scan + 4])]
    picture = gif[gif.index(b"\x2c", 13 + 3 * (2 << (gif[10] & 7))) : -1]
    bmp = encoded(drawn(), "BMP")
    yield (
        "PNG of 30,000 x 30,000",
        png((b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)), (b"IDAT", zeros)),
        many,
    )
    yield "JPEG of 11,000 x 11,000", patched(jpeg, frame + 5, struct.pack(">HH", 11000, 11000)), "11000 x 11000 pixels"
    yield "JPEG of 60,000 x 60,000", patched(jpeg, frame + 5, struct.pack(">HH", 60000, 60000)), many
    yield "GIF of 65,535 x 65,535", patched(gif, 6, b"\xff" * 4), many
    yield "WebP of 16,384 x 16,384", patched(webp, canvas, b"\xff\x3f\0\xff\x3f\0"), many
    yield "BMP of 30,000 x 30,000", patched(bmp, 18, struct.pack("<ii", 30000, 30000)), many
    yield "TIFF of 30,000 x 30,000", tiff(30000, 30000, zeros, _278=30000), many
    yield (
        "PNG of 99,000,000 x 1",
        png((b"IHDR", struct.pack(">IIBBBBB", 99_000_000, 1, 8, 2, 0, 0, 0)), (b"IDAT", zeros)),
        "a side has",
    )
    yield "PNG with a text of 80 MB", png_with(b"zTXt", b"k\0\0" + zeros), "too large"
    yield "PNG with an international text of 80 MB", png_with(b"iTXt", b"k\0\1\0\0\0" + zeros), "too large"
    yield "PNG with a profile of 80 MB", png_with(b"iCCP", b"k\0\0" + zeros), "too large"
    yield "PNG with 80 MB of pixels too many", png_with(b"IDAT", zeros), None
    yield (
        "TIFF with a tile of 225 megapixels",
        tiff(64, 64, zlib.compress(bytes(15008**2)), _322=15008, _323=15008),
        "tiles much larger",
    )
    yield "TIFF with a strip of 30,000 rows", tiff(60000, 64, zeros, _278=30000), None
    yield "JPEG of 4,000 scans", progressive[:scan] + first * 4000 + progressive[scan:], "more than 100 scans"
    yield "GIF of 100,000 frames", gif[:-1] + picture * 100_000 + b";", None


CHILD = """
import json, pickle, resource, sys
from cervix_jax.images.decode import UnreadableError, read_photograph, to_stored
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
files = pickle.load(sys.stdin.buffer)
resource.setrlimit(resource.RLIMIT_AS, (limit + sum(map(len, files)),) * 2)
reasons = []
for raw in files:
    try:
        image = read_photograph(raw)
        assert image.mode == "RGB" and not image.info
        stored, size, _ = to_stored(raw, (64, 48))
        assert max(read_photograph(stored).size) <= max(size)
        reasons.append(None)
    except UnreadableError as error:
        assert 0 < len(str(error)) < 200
        reasons.append(str(error))
print(json.dumps(reasons))
"""


def read_in_little_memory(files):
    """Why each file is refused, None where it is read, in a process that may take MEMORY and print nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(MEMORY)],
        input=pickle.dumps(files),
        capture_output=True,
        check=False,
        timeout=600,  # no measurement: what hangs fails
        env=os.environ | {"PYTHONPATH": str(Path(cervix_jax.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )
    errors = [line for line in done.stderr.decode().splitlines() if not re.match(r"[\w.]+: ", line)]
    assert errors == []  # neither an error nor a warning on the user's terminal; libtiff, in C, says what it thinks
    assert done.returncode == 0
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_bombs_are_refused_or_read_in_little_memory():
    names, files, patterns = zip(*bombs(), strict=True)
    for name, reason, pattern in zip(names, read_in_little_memory(list(files)), patterns, strict=True):
        if pattern is None:
            assert reason is None, name
        else:
            assert re.search(pattern, reason or "read"), (name, reason)


def test_pictures_just_below_the_limit_are_read():
    raw = encoded(Image.new("L", (9900, 9900), 100), "JPEG")  # more than what Pillow itself warns of
    assert read_photograph(raw, min_size=(640, 480)).size == (1238, 1238)


def test_scans_are_those_of_the_first_picture():
    raw = encoded(drawn(), "JPEG", progressive=True)
    assert decode._num_scans(raw) == raw.count(b"\xff\xda") > 5
    film = raw + b"\xff\xda" * 1000  # as phones append to what they call motion pictures
    exif = encoded(drawn(), "JPEG", comment=b"\xff\xda" * 1000)
    assert decode._num_scans(exif) == 1
    assert read_photograph(film).size == read_photograph(exif).size == (64, 48)


# --- A mutated corpus ------------------------------------------------------------------------------------------


def originals():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    picture, other = drawn(), drawn().transpose(Image.Transpose.ROTATE_180)
    frames = {"save_all": True, "append_images": [other]}
    rgba = picture.copy()
    rgba.putalpha(picture.getchannel(0))
    profile = icc_profile(b"RGB ", 2.2)
    yield from (
        encoded(picture, "JPEG", **o) for o in ({}, {"progressive": True}, {"exif": exif, "icc_profile": profile})
    )
    yield from (encoded(picture.convert(mode), "JPEG") for mode in ("L", "CMYK"))
    yield from (encoded(picture, "PNG", **o) for o in ({}, {"exif": exif, "icc_profile": profile}, frames))
    yield from (encoded(picture.convert(mode)) for mode in ("1", "L", "P", "I;16"))
    yield from (encoded(rgba, form) for form in ("PNG", "WEBP", "TIFF"))
    yield from (
        encoded(picture, "WEBP", **o) for o in ({"exif": exif}, {"lossless": True, "icc_profile": profile}, frames)
    )
    yield from (encoded(picture, "GIF", **o) for o in ({}, frames))
    yield from (encoded(picture.convert(mode), "BMP") for mode in ("RGB", "P", "1"))
    yield from (
        encoded(picture, "TIFF", compression=c) for c in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    )
    yield from (tiff(48, 48, zlib.compress(bytes(64 * 64)), _322=64, _323=64), encoded(picture, "TIFF", **frames))
    yield encoded(picture, "MPO", **frames)


def mutated(raw, rng):
    """A file with one to three kinds of damage, many of them where formats keep their lengths and offsets."""
    raw = bytearray(raw)
    for kind in rng.choice(["flip", "bytes", "truncate", "insert", "delete", "header", "length"], rng.integers(1, 4)):
        at, head = int(rng.integers(len(raw))), int(rng.integers(min(len(raw), 64)))
        if kind == "flip":
            raw[at] ^= 1 << rng.integers(8)
        elif kind == "bytes":
            raw[at : at + 8] = rng.bytes(8)
        elif kind == "truncate":
            del raw[max(1, at) :]
        elif kind == "insert":
            raw[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == "delete":
            del raw[at : at + int(rng.integers(1, 32))]
        elif kind == "header":
            raw[head] = int(rng.integers(256))
        else:
            names = [m.start() for m in re.finditer(rb"[A-Za-z]{4}|\xff[\xc0-\xfe]", raw)] or [at]
            place = max(0, int(rng.choice(names)) + int(rng.choice([-4, 2, 4])))
            raw[place : place + 4] = bytes(
                rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", rng.bytes(4)])
            )
        raw = raw or bytearray(1)
    return bytes(raw)


def check_corpus(number, seed):
    rng, files = np.random.default_rng(seed), list(originals())
    assert read_in_little_memory(files) == [None] * len(files)
    reasons = read_in_little_memory([mutated(files[i % len(files)], rng) for i in range(number)])
    num_read = reasons.count(None)
    assert len(reasons) == number
    assert number // 10 < num_read < number * 9 // 10, num_read  # neither is everything refused nor nothing
    assert "MemoryError" not in reasons


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_200_mutated_files():
    check_corpus(200, seed=1)


@pytest.mark.reliability
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_1000_mutated_files():
    check_corpus(1000, seed=2)


# --- Properties ------------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=60)
@given(
    size=sizes, orientation=st.integers(1, 8), form=st.sampled_from(["PNG", "TIFF", "WEBP"]), seed=st.integers(0, 99)
)
def test_lossless_pictures_come_back_as_they_were(size, orientation, form, seed):
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
    raw = with_orientation(image, orientation, form, **({"lossless": True} if form == "WEBP" else {}))
    np.testing.assert_array_equal(np.asarray(read_photograph(raw)), np.asarray(image))
    stored, original, _ = to_stored(raw, (20, 20))
    assert original == size
    height, width = read_photograph(stored).size[::-1]
    assert height <= size[0]
    assert width <= size[1]
    assert height >= min(size[0], 20)
    assert width >= min(size[1], 20)


@settings(max_examples=60)
@given(
    raw=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]),
)
def test_any_bytes_are_refused_with_a_reason(raw, start):
    with pytest.raises(UnreadableError, match=r"\S"):
        read_photograph(start + raw)


@settings(max_examples=40)
@given(color=st.tuples(*[st.integers(0, 255)] * 4))
def test_transparency_darkens_in_proportion(color):
    expected = np.array(color[:3]) * color[3] / 255
    np.testing.assert_allclose(pixel(encoded(flat(color, "RGBA"))), expected, atol=1)


# --- Warnings and threads --------------------------------------------------------------------------------------


def test_warnings_of_pillow_neither_show_nor_refuse_and_filters_stay(recwarn):
    raw = encoded(drawn(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x12\x01\x02\0\xff\0\0\0\xff\xff\xff\x0f")
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


# --- Folders ---------------------------------------------------------------------------------------------------

NAMES = [
    "a b.jpg",
    "größe 日本.jpg",
    "two\nlines.jpg",
    "carriage\rreturn.jpg",
    "-rf.jpg",
    "--help.png",
    'quo"te,s.jpg',
    "=1+1.jpg",
]


@pytest.fixture
def odd_folder(tmp_path):
    """A folder of odd names, links and special files; and what is outside."""
    folder, outside = tmp_path / "raw", tmp_path / "outside"
    for part in (folder / "more", outside):
        part.mkdir(parents=True)
    photograph = encoded(drawn(), "JPEG")
    for path in (*(folder / name for name in NAMES), folder / "more" / "1.jpg", outside / "secret.jpg"):
        path.write_bytes(photograph)
    (folder / "inside.jpg").symlink_to("more/1.jpg")
    (folder / "secret.jpg").symlink_to(outside / "secret.jpg")
    (folder / "up.jpg").symlink_to("../outside/secret.jpg")
    (folder / "elsewhere").symlink_to(outside)
    (folder / "nothing.jpg").symlink_to("none.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "more" / "loop").symlink_to("..")
    (folder / "again").symlink_to("more")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.jpg").mkdir()
    with (folder / "endless.png").open("wb") as file:
        file.truncate(1 << 40)  # a hole
    return folder


REFUSED = {
    "secret.jpg": "a link that leaves the folder",
    "up.jpg": "a link that leaves the folder",
    "elsewhere": "a link that leaves the folder",
    "device.jpg": "a link that leaves the folder",
    "nothing.jpg": "No such file or directory",
    "self.jpg": "Too many levels of symbolic links",
    "pipe.jpg": "not an ordinary file",
    "endless.png": "1,099,511,627,776 bytes; at most 400,000,000 are read",
}


def reason_of(path, inside):
    try:
        read_bytes(path, inside=inside)
    except UnreadableError as error:
        return str(error)


def test_every_file_of_an_odd_folder_is_read_or_refused_with_its_reason(odd_folder):
    found = find_photographs(odd_folder)
    reasons = {path.relative_to(odd_folder).as_posix(): reason_of(path, odd_folder) for path in found}
    assert reasons == REFUSED | dict.fromkeys([*NAMES, "more/1.jpg", "inside.jpg"])
    assert len(found) == len(reasons)


def test_a_folder_that_is_a_link_itself_is_searched(odd_folder, tmp_path):
    (tmp_path / "link").symlink_to(odd_folder)
    assert len(find_photographs(tmp_path / "link")) == len(find_photographs(odd_folder))
    assert reason_of(tmp_path / "link" / NAMES[0], tmp_path / "link") is None


def test_linked_folders_are_searched_once_and_only_inside(tmp_path):
    for name in ("raw/part", "raw/shared", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").write_bytes(b"x")
    (tmp_path / "raw/part/a").symlink_to("../shared")
    (tmp_path / "raw/part/b").symlink_to("../shared")
    (tmp_path / "raw/shared/back").symlink_to("../part")
    part, raw = tmp_path / "raw/part", tmp_path / "raw"
    assert [p.relative_to(part).as_posix() for p in find_photographs(part, inside=raw)] == ["1.jpg", "a/1.jpg"]
    # By itself the part may not be left; what is refused is named.
    assert [p.relative_to(part).as_posix() for p in find_photographs(part)] == ["1.jpg", "a", "b"]


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_devices_are_not_read(name):
    with pytest.raises(UnreadableError, match="not an ordinary file"):
        read_photograph(name)


def test_odd_folders_are_prepared_with_what_is_dropped_named(odd_folder, tmp_path):
    manual_dir = tmp_path / "manual"
    for name in CLASS_NAMES:
        (manual_dir / "train" / name).mkdir(parents=True)
        for i in range(5):
            (manual_dir / "train" / name / f"{i}.jpg").write_bytes(encoded(drawn(48 + i, 64), "JPEG"))
    odd_folder.rename(manual_dir / "train/Type_1/odd")
    not_utf8 = manual_dir / "train/Type_1/odd" / os.fsdecode(b"caf\xe9.jpg")
    not_utf8.write_bytes(encoded(drawn(), "JPEG"))
    made = tfds.builder("cervix/initial", data_dir=tmp_path / "data", file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    reread = tfds.builder("cervix/initial", data_dir=tmp_path / "data", file_format="array_record")
    refused = REFUSED | {not_utf8.name: "a name that is not UTF-8, which an id has to be"}
    refused["up.jpg"] = "No such file or directory"  # moved, it leads nowhere
    assert reread.info.metadata["dropped"] == {f"train/Type_1/odd/{name}": reason for name, reason in refused.items()}
    ids = [row["id"].decode() for split in ("train", "validation") for row in reread.as_data_source(split)]
    assert len(ids) == 15 + len(NAMES) + 2
    assert {f"train/Type_1/odd/{name}" for name in NAMES} < set(ids)


def test_class_folders_elsewhere_are_an_error(tmp_path):
    for name in CLASS_NAMES:
        (tmp_path / "raw/train" / name).mkdir(parents=True)
        (tmp_path / "raw/train" / name / "1.jpg").write_bytes(b"x")
    assert len(builder.scan(tmp_path / "raw", additional=False)) == 3
    (tmp_path / "raw/train/Type_2").rename(tmp_path / "elsewhere")
    (tmp_path / "raw/train/Type_2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(builder.ManualDirError, match="Type_2 is a link that leaves"):
        builder.scan(tmp_path / "raw", additional=False)


def test_odd_folders_are_predicted_with_what_is_skipped_named(odd_folder, tmp_path):
    (odd_folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(encoded(drawn(), "JPEG"))
    guess = Stub(lambda image: np.array([0.5, 0.25, 0.25]))
    result = predict_folder(guess, odd_folder, tmp_path / "p.csv")
    assert {row["image_name"]: row["reason"] for row in result["skipped"]} == REFUSED
    assert json.loads(json.dumps(result)) == result
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    expected = {*NAMES, "more/1.jpg", "inside.jpg", os.fsdecode(b"caf\xe9.jpg")}
    assert {row["image_name"] for row in rows} == expected
    assert len(rows) == len(expected) == result["predicted"]
    assert {row["Type_1"] for row in rows} == {"0.50000000"}
