"""Files of pictures for tests: any format, colour profile, orientation and damage."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from cervix_jax.images.decode import read_photograph

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what EXIF's orientation asks for


def encoded(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def gradient(height=48, width=64):
    """A picture in which every place can be told from every other."""
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([255 * rows // height, 255 * columns // width, rows * 0 + 90], axis=-1).astype(np.uint8)
    )


def flat(color, mode="RGB"):
    return Image.new(mode, (16, 16), color)


def pixel(raw):
    return read_photograph(raw).getpixel((8, 8))


def with_orientation(image, orientation, form, **options):
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    stored = image.transpose(UPRIGHT[undo]) if orientation in UPRIGHT else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored, form, exif=exif, **options)


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
