"""Boxes: overlaps against counted pixels, crops inside the photograph, gradients where boxes do not touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.images import boxes

PIXELS = 40
corner = st.integers(0, PIXELS)


@st.composite
def pixel_boxes(draw):
    """A box on a grid of pixels, left < right and top < bottom."""
    left, right = sorted(draw(st.lists(corner, min_size=2, max_size=2, unique=True)))
    top, bottom = sorted(draw(st.lists(corner, min_size=2, max_size=2, unique=True)))
    return np.array([left, top, right, bottom])


def mask(box):
    """The pixels of a box."""
    result = np.zeros((PIXELS, PIXELS), bool)
    left, top, right, bottom = box
    result[top:bottom, left:right] = True
    return result


@given(pixel_boxes(), pixel_boxes())
def test_overlaps_are_those_of_counted_pixels(a, b):
    one, other = mask(a), mask(b)
    expected = (one & other).sum() / (one | other).sum()
    assert boxes.iou(a / PIXELS, b / PIXELS) == pytest.approx(expected)
    hull = mask(np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])).sum()
    expected -= (hull - (one | other).sum()) / hull
    assert boxes.generalized_iou(a / PIXELS, b / PIXELS) == pytest.approx(expected)
    assert boxes.generalized_iou(jnp.asarray(a / PIXELS), jnp.asarray(b / PIXELS)) == pytest.approx(expected, abs=1e-5)


@given(pixel_boxes())
def test_the_box_of_a_mask_is_the_one_that_was_filled(box):
    assert boxes.bounding_box(mask(box)) == pytest.approx(tuple(box / PIXELS))
    assert boxes.bounding_box(np.zeros((3, 2), bool)) is None


@given(pixel_boxes())
def test_a_box_overlaps_itself_wholly_and_an_empty_one_not_at_all(a):
    assert boxes.iou(a / PIXELS, a / PIXELS) == pytest.approx(1)
    empty = np.array([0.5, 0.5, 0.5, 0.2])
    assert boxes.iou(a / PIXELS, empty) == 0
    assert boxes.iou(empty, empty) == 0


def test_boxes_that_do_not_touch_are_drawn_together_by_the_gradient():
    target = jnp.array([0.6, 0.6, 0.8, 0.8])
    gradient = jax.grad(lambda box: boxes.generalized_iou(box, target))(jnp.array([0.1, 0.1, 0.3, 0.3]))
    assert (gradient[2:] > 0).all()


@given(
    box=pixel_boxes(),
    size=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    margin=st.floats(0, 1),
)
def test_a_crop_lies_inside_and_holds_the_box(box, size, margin):
    fractions = tuple(box / PIXELS)
    left, top, right, bottom = boxes.crop_region(fractions, size, margin)
    height, width = size
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left <= fractions[0] * width + 1
    assert right >= fractions[2] * width - 1
    assert top <= fractions[1] * height + 1
    assert bottom >= fractions[3] * height - 1


def test_a_crop_has_its_margin_where_there_is_room():
    assert boxes.crop_region((0.4, 0.4, 0.6, 0.6), (200, 100), 0.0) == (40, 80, 60, 120)
    assert boxes.crop_region((0.4, 0.4, 0.6, 0.6), (200, 100), 0.1) == (38, 76, 62, 124)
    assert boxes.crop_region((0.0, 0.4, 0.2, 0.6), (200, 100), 0.5) == (0, 60, 40, 140)
    assert boxes.crop_region(boxes.WHOLE, (200, 100), 0.1) == (0, 0, 100, 200)


@given(pixel_boxes(), st.booleans(), st.booleans())
def test_mirroring_twice_changes_nothing_and_once_as_pixels_do(box, horizontal, vertical):
    once = boxes.mirrored(box / PIXELS, horizontal=horizontal, vertical=vertical)
    axes = [axis for axis, chosen in ((0, vertical), (1, horizontal)) if chosen]
    assert (mask(np.round(once * PIXELS).astype(int)) == np.flip(mask(box), axes)).all()
    twice = boxes.mirrored(once, horizontal=horizontal, vertical=vertical)
    np.testing.assert_allclose(twice, box / PIXELS, atol=1e-12)
