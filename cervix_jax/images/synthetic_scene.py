"""Scenes of synthetic photographs: a cervix and its zone, other things that lie in such folders, and the exposure."""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

# Float32, about 0 to 1. Channels first: numpy is far slower where the innermost axis has 3 elements.
Colours: TypeAlias = Float[np.ndarray, "3 height width"]
Plane: TypeAlias = Float[np.ndarray, "height width"]
Mask: TypeAlias = Bool[np.ndarray, "height width"]


def draw_cervix(rng: np.random.Generator, label: int, size: tuple[int, int]) -> tuple[Colours, Mask, Mask]:
    """Draws tissue, zone and instruments; returns the colours, and the visible pixels of the zone and of the cervix."""
    frame, palette = _frame(rng, size), _palette(rng)
    colour = np.tile(palette["wall"].astype(np.float32)[:, None, None], (1, *size))
    # The fold between wall and ectocervix lies in shade.
    _paint(colour, _inside(np.abs(frame.disc - 1.02), 0.08, 0.12), palette["os"], 0.45)
    _paint(colour, _inside(frame.disc, 0.98, 0.08), palette["ectocervix"])
    # Blush without borders: how red a place is must not tell the type, or histograms of grid cells would.
    blush = rng.uniform(0.05, 0.30) * (_noise(rng, size, 4) + 0.5)
    _paint(colour, np.clip(blush, 0, 0.6), palette["zone"])
    zone, patches, mouth = _red_areas(rng, frame, label)
    grain = 1 + 0.12 * _noise(rng, size, 60)
    _paint(colour, np.maximum(zone, patches) * grain, palette["zone"], rng.uniform(0.5, 1.0))
    if label == 1:
        # The open canal: its wall is red and shaded, and a pale line in it is the upper limit of the zone.
        _paint(colour, _inside(mouth, 1.75, 0.3), 0.5 * palette["zone"] + 0.5 * palette["os"], 0.5)
        _paint(colour, _inside(np.abs(mouth - 1.2), 0.12, 0.2), palette["ectocervix"], 0.8)
    _paint(colour, _inside(mouth, 1.0, 0.35), palette["os"], rng.uniform(0.85, 1.0))
    # The ectocervix is a dome: brightest in its middle.
    texture = 0.035 * _noise(rng, size, 6) + 0.02 * frame.wobble + 0.16 * (grain - 1)
    colour *= 1 + texture + 0.12 * np.clip(1 - frame.disc, -0.5, 1)
    clear = _instruments(rng, colour)
    return colour, (zone > 0.5) & (mouth > 1) & clear, (frame.disc < 1) & clear


def draw_junk(rng: np.random.Generator, size: tuple[int, int]) -> Colours:
    """Draws what else lies in such folders: a glove, a floor, a label, a face or a failed exposure."""
    ground, paint = (tuple(rng.integers(30, 226, 3).tolist()) for _ in range(2))
    style = ("glove", "floor", "label", "face", "exposure")[rng.integers(5)]
    if style == "exposure":
        ground = (int(rng.choice([3, 12, 240, 250])),) * 3
    picture = Image.new("RGB", (240, 320), ground)
    pen = ImageDraw.Draw(picture)
    x, y = rng.integers(-20, 21, 2).tolist()
    if style == "glove":
        pen.rectangle((50 + x, 140 + y, 190 + x, 320), fill=paint)
        for left in range(50 + x, 190 + x, 36):
            tip = 40 + y + int(rng.integers(60))
            pen.rounded_rectangle((left, tip, left + 31, 180 + y), radius=14, fill=paint)
    elif style == "floor":
        for line in range(0, 320, 26):
            pen.line((0, line + x, 240, line + y), fill=paint, width=2)
    elif style == "label":
        pen.rectangle((10, 20, 230, 300), fill=(235, 232, 225))
        for column, line in np.argwhere(rng.random((25, 14)) < 0.7).tolist():
            pen.rectangle((20 + 8 * column, 32 + 18 * line, 26 + 8 * column, 39 + 18 * line), fill=(40, 40, 50))
    elif style == "face":
        pen.ellipse((50 + x, 60 + y, 190 + x, 250 + y), fill=(224, 178, 150))
        pen.ellipse((95 + x, 200 + y, 145 + x, 210 + y), fill=(150, 60, 60))
        for eye in (82 + x, 134 + x):
            pen.ellipse((eye, 130 + y, eye + 24, 142 + y), fill=(40, 30, 30))
    colour = np.asarray(picture.resize(size[::-1]), np.float32).transpose(2, 0, 1) / 255
    return colour * (1 + 0.04 * _noise(rng, size, 5))


def shift_colours(rng: np.random.Generator, colour: Colours) -> Colours:
    """Another acquisition: the colposcope's green filter, a wrong white balance, or another camera."""
    style = rng.integers(4)
    if style == 3:
        grey = colour.mean(axis=0)
        return 0.5 + 1.4 * (grey + 0.35 * (colour - grey) - 0.5)
    gains = ((0.35, 1.05, 0.60), (0.75, 0.95, 1.55), (1.2, 0.95, 0.45))[style]
    return colour * np.array(gains, np.float32)[:, None, None]


def expose(rng: np.random.Generator, colour: Colours, blur: float) -> UInt8[np.ndarray, "height width 3"]:
    """Lights, exposes and quantises a picture; `blur` (standard deviation in pixels) adds to a slight one."""
    _, height, width = colour.shape
    # Colour must vary more than the type makes it vary, or histograms would tell the type.
    balance = np.exp(rng.normal(0, 0.13, 3) + rng.normal(0, 0.22))
    saturation = rng.uniform(0.65, 1.25)
    grey = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
    slope_y, slope_x = rng.normal(0, 0.18, 2)
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    light = 1 + float(slope_y) * rows[:, None] + float(slope_x) * columns
    # A look-up table applies the camera's curve much faster than a power of every pixel would.
    curve = np.clip(255 * (np.arange(1024) / 1023) ** rng.uniform(0.75, 1.3), 0, 255).astype(np.uint8)
    codes = np.empty((height, width, 3), np.uint8)
    for channel, gain in enumerate(balance):
        lit = (grey + saturation * (colour[channel] - grey)) * light * float(1023 * gain)
        codes[..., channel] = curve[np.clip(lit, 0, 1023).astype(np.int16)]
    # One pass of a box is enough for the lens; three passes, a Gaussian, only where the blur is to be seen.
    picture = Image.fromarray(codes).filter(ImageFilter.BoxBlur(rng.uniform(0.2, 1.0)))
    if blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    # Noise after the blur: of the sensor, and in the 8 x 8 blocks of a JPEG file.
    noise = rng.integers(-6, 7, (height, width, 1), np.int16)
    blocks = rng.integers(-2, 3, (-(-height // 8), -(-width // 8), 3), np.int16)
    noise = noise + blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.clip(np.asarray(picture, np.int16) + noise, 0, 255).astype(np.uint8)


class _Frame(NamedTuple):
    """Coordinates of every pixel in the turned frame of the cervix, in units of its radius."""

    x: Plane  # along the slit of the os, 0 at the os
    y: Plane  # across the slit of the os
    disc: Plane  # distance from the centre of the ectocervix, 1 at its edge
    wobble: Plane  # smooth noise of unit variance that makes borders irregular


def _frame(rng: np.random.Generator, size: tuple[int, int]) -> _Frame:
    """Places the cervix: position, rotation, scale and proportions."""
    height, width = size
    radius = width * rng.uniform(0.42, 0.58)
    angle, stretch = rng.uniform(-0.6, 0.6), math.exp(rng.uniform(-0.12, 0.12))
    rows, columns = np.ogrid[:height, :width]
    rows = ((rows - height * rng.uniform(0.37, 0.63)) / (radius * stretch)).astype(np.float32)
    columns = ((columns - width * rng.uniform(0.37, 0.63)) * (stretch / radius)).astype(np.float32)
    x = columns * math.cos(angle) + rows * math.sin(angle)
    y = rows * math.cos(angle) - columns * math.sin(angle)
    wobble = _noise(rng, size, 10)
    # The edge of the ectocervix is smoother than the borders of the zone.
    disc = _length(x, y) + 0.018 * wobble
    return _Frame(x - rng.uniform(-0.22, 0.22), y - rng.uniform(-0.22, 0.22), disc, wobble)


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Plane:
    """Smooth noise of about unit variance with `cells` bumps along the height."""
    grid = rng.standard_normal((cells, max(2, round(cells * size[1] / size[0]))), np.float32)
    return np.array(Image.fromarray(grid).resize(size[::-1], Image.Resampling.BICUBIC))


def _length(x: Float[np.ndarray, "..."], y: Float[np.ndarray, "..."]) -> Plane:
    """Euclidean length of vectors whose components broadcast; several times faster than numpy's hypot."""
    return np.sqrt(x * x + y * y)


def _inside(distance: Plane, limit: float, fade: float = 0.05) -> Plane:
    """Membership of `distance < limit`, 0 to 1, with a soft border of width `fade`."""
    return np.clip(limit / fade + 0.5 - distance * (1 / fade), 0, 1)


def _paint(colour: Colours, mask: Plane, paint: Float[np.ndarray, "3"], opacity: float = 1.0) -> None:
    """Covers `colour` in place with one paint where the mask is 1."""
    mask = mask * opacity
    rest = 1 - mask
    for channel, value in zip(colour, paint, strict=True):
        channel *= rest
        channel += mask * float(value)


def _palette(rng: np.random.Generator) -> dict[str, Float[np.ndarray, "3"]]:
    """Colours of the tissues; those of one picture share a part of their deviation."""
    means = np.array([(0.72, 0.42, 0.42), (0.86, 0.62, 0.59), (0.68, 0.22, 0.20), (0.13, 0.04, 0.04)])
    deviations = rng.normal(0, 0.10, 3) + rng.normal(0, 0.08, (4, 1)) + rng.normal(0, 0.05, (4, 3))
    return dict(zip(("wall", "ectocervix", "zone", "os"), means * np.exp(deviations), strict=True))


def _red_areas(rng: np.random.Generator, frame: _Frame, label: int) -> tuple[Plane, Plane, Plane]:
    """Lays out the red areas and the os, the only things that depend on the type.

    Areas are in squares of the cervix's radius. Both sums (red and dark) are independent of the type.

    Returns:
        Masks (0 to 1) of the zone and of the other patches, and a distance that is 1 on the rim of the os.
    """
    red, dark = rng.uniform(0.40, 0.70), rng.uniform(0.020, 0.040)
    aspect = rng.uniform(*((1.0, 2.5), (1.0, 1.6), (4.0, 7.0))[label])
    if label == 1:
        dark *= 0.7  # because the shaded wall of its canal is dark too
    half_height = math.sqrt(dark / (math.pi * aspect))
    half_width = half_height * aspect
    mouth = _length(frame.x / half_width, frame.y / half_height)
    # The zone lies around the os without being concentric or a perfect circle.
    squeeze = math.exp(rng.uniform(-0.12, 0.12))
    x, y = frame.x - rng.uniform(-0.03, 0.03), frame.y - rng.uniform(-0.03, 0.03)
    around = _length(x * squeeze, y / squeeze) + 0.022 * frame.wobble
    if label == 0:
        share, inner = rng.uniform(0.75, 1.0), rng.uniform(0.25, 0.30)
        ground = math.sqrt(inner**2 + red * share / math.pi)
        zone = _inside(around, ground) - _inside(around, inner)
    elif label == 1:
        share = rng.uniform(0.45, 0.75)
        ground = math.sqrt((red * share + dark) / math.pi)
        zone = _inside(around, ground)
    else:
        # Only one lip is red: what an os moved across its slit would cover beyond the real one.
        side = 0.05 * rng.choice((-1, 1)).item()
        share, ground = 0.04, 0.24
        zone = _inside(_length(frame.x / half_width, (frame.y - side) / (half_height + 0.02)), 1.0, 0.3)
    return zone, _patches(rng, frame, red * (1 - share), ground), mouth


def _patches(rng: np.random.Generator, frame: _Frame, area: float, ground: float) -> Plane:
    """Draws red patches of a given sum of areas around the os, all farther from it than `ground`.

    Their number varies, so that neither it nor the size of one patch tells the type.
    """
    patches = np.zeros_like(frame.x)
    count = min(6, max(1, round(area / rng.uniform(0.05, 0.18))))
    size, start = math.sqrt(area / count / math.pi), rng.uniform(0, 2 * math.pi)
    for number in range(count):
        turn = start + (number + rng.uniform(-0.25, 0.25)) * 2 * math.pi / count
        slim = rng.uniform(1.0, 1.35)
        long, short = size * slim, size / slim
        reach = ground + short + rng.uniform(0.02, 0.18)
        along = math.cos(turn) * frame.x + math.sin(turn) * frame.y - reach
        across = math.cos(turn) * frame.y - math.sin(turn) * frame.x
        distance = _length(along / short, across / long) + (0.022 / short) * frame.wobble
        np.maximum(patches, _inside(distance, 1.0, 0.05 / short), out=patches)
    return patches


def _instruments(rng: np.random.Generator, colour: Colours) -> Mask:
    """Adds mucus, glare, speculum and the lens tube in place; returns the pixels that stay uncovered."""
    _, height, width = colour.shape
    size = (height, width)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    if rng.random() < 0.5:
        mucus = np.clip((_noise(rng, size, 5) - 0.7) / 0.6, 0, 1)
        _paint(colour, mucus, rng.uniform(0.7, 0.95, 3), rng.uniform(0.15, 0.4))
    # Glare: small white spots where wet tissue mirrors the lamp, clustered around one point.
    lamp = _length(columns - rng.uniform(-0.5, 0.5), rows - rng.uniform(-0.5, 0.5))
    glare = _noise(rng, size, 40) - 3 * lamp + rng.uniform(-0.7, 0.3)
    _paint(colour, np.clip(3 * glare, 0, 1), np.ones(3), 0.9)
    covered = np.zeros((height, width), bool)
    metal = rng.uniform(0.25, 0.85) * rng.uniform(0.95, 1.05, 3)
    for edge, other in ((rows, columns), (-rows, columns), (columns, rows), (-columns, rows)):
        if rng.random() < 0.25:
            # Blades are bent: their edge is an arc across the picture.
            bent = edge + rng.uniform(-0.12, 0.12) * other**2 + rng.uniform(-0.15, 0.15) * other
            blade = _inside(-bent, -rng.uniform(0.78, 0.95), 0.03)
            _paint(colour, blade, metal)
            colour *= 1 + blade * (bent - 1)
            covered |= blade > 0.5
    colour *= 1 - rng.uniform(0, 0.3) * (columns**2 + rows**2)
    if rng.random() < 0.3:
        tube = _inside(_length(columns * (width / height), rows), rng.uniform(0.85, 1.0), 0.04)
        colour *= tube
        covered |= tube < 0.5
    return ~covered
