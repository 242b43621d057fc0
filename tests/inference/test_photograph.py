"""Photographs as networks see them: the pixels of training, and as few decodings as these take."""

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from cervix_jax.datasets.quality import ImageFeatures
from cervix_jax.images.decode import read_photograph, to_stored
from cervix_jax.images.geometry import CropResize
from cervix_jax.inference.photograph import NetworkInput, Photograph

TRANSFORMS = [CropResize((320, 240)), CropResize((64, 48)), CropResize((320, 240), 0.8, "fit"), CropResize((150, 80))]
INPUTS = [NetworkInput(transform) for transform in TRANSFORMS]


def jpeg(width: int, height: int) -> bytes:
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack([255 * rows // height, 255 * columns // width, (rows + columns) % 256], axis=-1)
    out = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.fixture
def decodings(monkeypatch):
    """Sizes of the JPEGs that Pillow decodes."""
    sizes, load = [], JpegImagePlugin.JpegImageFile.load

    def counting(image):
        if image.tile:
            sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", counting)
    return sizes


@pytest.mark.parametrize("size", [(512, 512), (480, 640), (500, 700), (1600, 900), (30, 40), (1281, 961)])
def test_images_are_what_training_reads_from_the_stored_photograph(size) -> None:
    photograph = Photograph.read(jpeg(*size), INPUTS, with_features=True)
    stored = to_stored(jpeg(*size)).jpeg
    assert photograph.jpeg == stored
    assert photograph.size == read_photograph(stored).size[::-1]
    for image, transform in zip(photograph.images, TRANSFORMS, strict=True):
        np.testing.assert_array_equal(image, transform(read_photograph(stored, min_size=transform.min_size())))
    expected = ImageFeatures.of(read_photograph(stored))
    np.testing.assert_array_equal(photograph.features.histograms, expected.histograms)
    assert photograph.features.sharpness == expected.sharpness
    again = Photograph.from_stored(stored, INPUTS)
    np.testing.assert_array_equal(again.images[1], photograph.images[1])
    assert (again.size, again.features) == (photograph.size, None)


def test_a_photograph_that_is_stored_as_it_is_is_decoded_once(decodings) -> None:
    Photograph.read(jpeg(512, 512), [INPUTS[0], INPUTS[2]], with_features=True)
    assert decodings == [(512, 512)]
    decodings.clear()
    Photograph.read(jpeg(512, 512), INPUTS, with_features=True)
    assert decodings == [(512, 512), (64, 64), (256, 256)]  # once more for each reduction that a transform allows


def test_a_stored_photograph_is_decoded_as_small_as_its_transforms_allow(decodings) -> None:
    Photograph.from_stored(jpeg(480, 640), INPUTS[1:2])
    assert decodings == [(60, 80)]
