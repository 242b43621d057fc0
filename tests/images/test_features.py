"""Histograms and sharpness against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cervix_jax.images.features import NUM_FEATURES, colour_histograms, sharpness

images = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=6, max_side=24).map(lambda s: (*s, 3)))


@given(images)
def test_histograms_are_those_of_numpy(image):
    features = colour_histograms(image)
    assert features.shape == (NUM_FEATURES,) == (456,)
    expected = []
    cells = [cell for band in np.array_split(image, 3, axis=0) for cell in np.array_split(band, 3, axis=1)]
    for part, bins in [(image, 17), *((cell, 15) for cell in cells)]:
        for channel in range(3):
            counts, _ = np.histogram(part[..., channel], bins, range=(0, 256))
            expected.append(counts / counts.sum())
    np.testing.assert_allclose(features, np.concatenate(expected), atol=1e-6)


@given(images)
def test_each_of_the_thirty_histograms_sums_to_one(image):
    features = colour_histograms(image)
    sums = [*features[:51].reshape(3, 17).sum(1), *features[51:].reshape(27, 15).sum(1)]
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_where_a_colour_is_matters():
    image = np.zeros((30, 30, 3), np.uint8)
    image[:10, :10] = 255
    moved = np.roll(image, 20, axis=0)
    np.testing.assert_allclose(colour_histograms(image)[:51], colour_histograms(moved)[:51])
    assert np.abs(colour_histograms(image) - colour_histograms(moved)).sum() == pytest.approx(2 * 2 * 3)


@given(images)
def test_sharpness_is_the_largest_laplacian_of_the_centre(image):
    height, width = image.shape[:2]
    centre = image[height // 4 : height - height // 4, width // 4 : width - width // 4].astype(float)
    if min(centre.shape[:2]) < 3:
        assert sharpness(image) == 0
        return
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    responses = [ndimage.convolve(centre[..., c], kernel)[1:-1, 1:-1] for c in range(3)]
    assert sharpness(image) == np.abs(responses).max()


def test_sharpness_sees_the_centre_alone_and_does_not_wrap_around():
    image = np.zeros((40, 40, 3), np.uint8)
    image[2, 2] = 255
    assert sharpness(image) == 0
    image[20, 20, 1] = 255
    assert sharpness(image) == 4 * 255  # 8 bits would give 4


def test_blurring_lowers_sharpness():
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3)).astype(np.uint8)
    blurred = ndimage.gaussian_filter(image.astype(float), (1, 1, 0)).astype(np.uint8)
    assert sharpness(blurred) < sharpness(image) / 3
