"""Test-time augmentation: how many views, that they are what they say, and what their mean does not depend on."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.tta import UnknownAugmentationError, make_views

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (2, 20, 10, 3)), jnp.float32)


@pytest.mark.parametrize(("names", "count"), [((), 1), (("flips",), 4), (("crops",), 5), (("crops", "flips"), 20)])
def test_the_first_view_is_the_photograph_and_no_view_comes_twice(names, count) -> None:
    views = [np.asarray(view(IMAGES)) for view in make_views(names)]
    assert len(views) == count
    np.testing.assert_array_equal(views[0], IMAGES)
    assert len({view.tobytes() for view in views}) == count
    assert all(view.shape == IMAGES.shape for view in views)


@pytest.mark.parametrize("names", [("flips",), ("flips", "crops")])
@pytest.mark.parametrize("axes", [1, 2, (1, 2)])
def test_the_views_of_a_mirrored_photograph_are_the_same_views(names, axes) -> None:
    def summed(images):  # of any function of a view
        return sum(np.sin(np.asarray(view(images)) * (np.arange(10)[:, None] + 1)) for view in make_views(names))

    np.testing.assert_allclose(summed(jnp.flip(IMAGES, axes)), summed(IMAGES), atol=2e-2)
    assert np.abs(np.sin(np.flip(IMAGES, axes)) - np.sin(IMAGES)).max() > 0.5


def test_a_corner_is_that_corner() -> None:
    marked = np.zeros((1, 20, 10, 3), np.float32)
    marked[0, 0, 0] = marked[0, -1, -1] = 100
    _, *corners = (np.asarray(view(jnp.asarray(marked)))[0] for view in make_views(["crops"]))
    assert [corner[0, 0, 0] > 50 for corner in corners] == [True, False, False, False]
    assert [corner[-1, -1, 0] > 50 for corner in corners] == [False, False, False, True]


def png(image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_predictions_do_not_change_when_a_photograph_is_mirrored(predictor, manual_dir) -> None:
    image = Image.open(manual_dir / "test/0.jpg").resize((24, 32))  # as the network sees it
    mirrored = [image, ImageOps.mirror(image), ImageOps.flip(image), ImageOps.flip(ImageOps.mirror(image))]

    def spread(augmentations):
        augmented = dataclasses.replace(predictor, augmentations=augmentations)
        seen = [augmented.read(png(each)) for each in mirrored]
        # Exactly mirrored: the JPEG that a data set would store is a little different for each.
        exact = [seen[0].images[0][rows, columns] for rows, columns in
                 ((slice(None), slice(None)), (slice(None), slice(None, None, -1)),
                  (slice(None, None, -1), slice(None)), (slice(None, None, -1), slice(None, None, -1)))]  # fmt: skip
        photographs = [Photograph((pixels,), b"", (32, 24), (None,)) for pixels in exact]
        return np.ptp(augmented.probabilities(photographs), axis=0).max()

    assert spread(()) > 1e-4
    assert spread(("flips",)) < 1e-6
    assert spread(("flips", "crops")) < 1e-6


def test_an_unknown_name_is_refused(run) -> None:
    with pytest.raises(UnknownAugmentationError, match="'rotations'; there are flips, crops"):
        Predictor.restore([run[0]], augmentations=["rotations"])
