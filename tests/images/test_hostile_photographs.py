"""Pictures that are damaged or meant to harm: read, or refused with a reason, in little memory."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cervix_jax
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.files import UnreadableError
from tests.images.encodings import encoded, flat, gradient, icc_profile, patched, png, png_with, tiff, with_orientation

MEMORY = 512 << 20  # bytes that a reading process may take beyond what its imports took


def bombs():
    """Files of at most a few megabytes, and a pattern of why each is refused; None for what is read."""
    many = "too many pixels|at most 100,000,000|not a picture"
    jpeg = encoded(gradient(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    gif = encoded(Image.new("P", (16, 16)), "GIF")
    webp = encoded(gradient(), "WEBP", save_all=True, append_images=[flat((3, 2, 1)).resize((64, 48))])
    canvas = webp.index(b"VP8X") + 12
    zeros = zlib.compress(bytes(80_000_000))
    progressive = encoded(Image.new("L", (6000, 6000)), "JPEG", progressive=True)
    scan = progressive.index(b"\xff\xda")
    first = progressive[scan : scan + 2 + int.from_bytes(progressive[scan + 2 : scan + 4])]
    picture = gif[gif.index(b"\x2c", 13 + 3 * (2 << (gif[10] & 7))) : -1]
    bmp = encoded(gradient(), "BMP")
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


def originals():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    picture, other = gradient(), gradient().transpose(Image.Transpose.ROTATE_180)
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
