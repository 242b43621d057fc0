"""A map lies on the photograph where the network saw what it shows, whatever was cropped, resized, padded or turned."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cervix_jax.explainers.grad_cam import enlarged
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.geometry import CropResize

SHAPES = {"portrait": (400, 300), "landscape": (300, 400), "small": (40, 30), "odd": (333, 217)}
VIEWS = {
    "stretch": CropResize((64, 48), 1.0, "stretch"),
    "cropped": CropResize((64, 48), 0.7, "stretch"),
    "fit": CropResize((64, 48), 1.0, "fit"),
    "fit, cropped": CropResize((64, 48), 0.55, "fit"),
}


def spot(size, place, radius=0.06):
    """A white disc on black, at a place given as fractions of the sides."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(rows / size[0] - place[0], columns / size[1] - place[1])
    return np.repeat((255 * (distance < radius)).astype(np.uint8)[..., None], 3, axis=2)


def centre(heat):
    rows, columns = np.indices(heat.shape)
    return np.array([(rows * heat).sum(), (columns * heat).sum()]) / heat.sum() + 0.5


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
def test_what_is_seen_comes_back_to_its_pixel(size, view) -> None:
    place = (0.4, 0.6)
    picture = spot(size, place)
    seen = view(Image.fromarray(picture))
    heat = view.to_photograph(seen[..., 0].astype(np.float32), size)
    assert heat.shape == size
    pixel = max(size[0] / view.size[0], size[1] / view.size[1], 1)  # of the network, in pixels of the photograph
    assert np.abs(centre(heat) - centre(picture[..., 0] / 255)).max() < 0.5 * pixel
    covered = (heat > 128) & (picture[..., 0] > 0)
    assert covered.sum() > 0.7 * (picture[..., 0] > 0).sum()


BOX = (0.3, 0.2, 0.9, 0.7)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
def test_what_is_seen_through_a_box_comes_back_to_its_pixel(size, view) -> None:
    view = dataclasses.replace(view, margin=0.1)
    picture = spot(size, (0.4, 0.6))
    heat = view.to_photograph(view(Image.fromarray(picture), BOX)[..., 0].astype(np.float32), size, BOX)
    pixel = max(size[0] / view.size[0], size[1] / view.size[1], 1)
    assert np.abs(centre(heat) - centre(picture[..., 0] / 255)).max() < 0.5 * pixel
    left, top, right, bottom = view.region(size, BOX)
    outside = np.ones(size, bool)
    outside[round(top * size[0]) : round(bottom * size[0]), round(left * size[1]) : round(right * size[1])] = False
    assert not heat[outside].any()


def test_a_photograph_is_decoded_large_enough_for_a_crop() -> None:
    assert CropResize((64, 48)).min_size() == (64, 48)
    assert CropResize((64, 48), 0.4).min_size() == (160, 120)
    assert CropResize((64, 48), margin=0.1).min_size((0.5, 0.5, 1.0, 0.75)) == (256, 96)


@pytest.mark.parametrize("crop", [1.0, 0.7, 0.4])
def test_a_crop_of_a_reduced_photograph_shows_what_one_of_the_whole_shows(crop: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)  # of grains of 2 x 2 pixels
    out = io.BytesIO()
    Image.fromarray(noise.repeat(2, 0).repeat(2, 1)).convert("RGB").save(out, "JPEG", quality=95)
    view = CropResize((128, 96), crop)
    reduced, whole = (view(read_photograph(out.getvalue(), size)) for size in (view.min_size(), None))
    assert np.corrcoef(reduced.ravel(), whole.ravel())[0, 1] > 0.9


def test_there_is_no_evidence_where_the_run_does_not_look() -> None:
    heat = CropResize((64, 48), 0.5, "stretch").to_photograph(np.ones((64, 48), np.float32), (400, 300))
    assert heat[100:300, 75:225].min() == 1
    assert heat.sum() == 200 * 150


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_explained_upright(orientation: int) -> None:
    """EXIF says how to turn it; the stored photograph, which the map lies on, is turned."""
    upright = Image.fromarray(spot((200, 150), (0.3, 0.7)))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that undo the orientation
    raw = upright if orientation == 1 else upright.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    raw.save(out, "JPEG", quality=95, exif=exif)
    stored = read_photograph(to_stored(out.getvalue(), (640, 480))[0])
    view = VIEWS["stretch"]
    seen = view(stored)
    size = (stored.height, stored.width)
    heat = view.to_photograph(seen[..., 0].astype(np.float32), size)
    assert size == (200, 150)
    assert np.abs(centre(heat) - [60, 105]).max() < 2.5


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_shares_of_a_whole_keep_their_sum(view) -> None:
    visible = view(Image.new("RGB", (300, 400), "white"))[..., 0] > 0  # not the black that 'fit' pads with
    heat = np.where(visible, np.random.default_rng(0).random(view.size), 0).astype(np.float32)
    assert view.to_photograph(heat, (400, 300), keep_sum=True).sum() == pytest.approx(heat.sum(), rel=0.02)


def test_cells_of_a_feature_map_lie_over_the_pixels_that_they_were_computed_from() -> None:
    """240 columns shrink to 8 cells of 32; the last one reaches over the edge."""
    maps = np.zeros((1, 10, 8), np.float32)
    maps[0, 4, 6] = 1
    large = np.asarray(enlarged(jnp.asarray(maps), (320, 240)))[0]
    assert large.shape == (320, 240)
    assert np.abs(centre(large) - [4.5 * 32, 6.5 * 32]).max() < 3  # its right flank is cut a little
    assert large.sum() == pytest.approx(1, rel=0.05)
    same = jnp.asarray(np.random.default_rng(0).random((1, 5, 4)), jnp.float32)
    np.testing.assert_allclose(enlarged(same, (5, 4)), same, rtol=1e-6)


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
