"""Occlusion against its definition on a linear score."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.explainers.gradients import mean_colour
from cervix_jax.explainers.occlusion import occlusion, patch_masks

IMAGES = jax.random.uniform(jax.random.key(0), (2, 6, 5, 3), maxval=255)
WEIGHTS = jax.random.normal(jax.random.key(1), (6, 5, 3))


def linear(images):
    return jnp.tensordot(images, WEIGHTS, axes=3)


def test_occlusion_of_a_linear_score_is_the_mean_over_patches() -> None:
    masks = patch_masks((6, 5), 3)
    change = np.asarray(WEIGHTS * (IMAGES - mean_colour(IMAGES)))
    expected = np.zeros((2, 6, 5))
    for row, column in np.ndindex(6, 5):
        covering = [mask for mask in masks if mask[row, column]]
        falls = [(change * mask[:, :, None]).sum(axis=(1, 2, 3)) for mask in covering]
        expected[:, row, column] = np.mean(falls, axis=0)
    np.testing.assert_allclose(occlusion(linear, IMAGES, patches_per_side=3), expected, rtol=1e-3, atol=1e-2)


def test_a_constant_score_does_not_fall() -> None:
    np.testing.assert_array_equal(occlusion(lambda x: jnp.zeros(len(x)), IMAGES), 0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 10))
def test_patches_cover_every_pixel_and_have_one_size(height: int, width: int, patches_per_side: int) -> None:
    masks = patch_masks((height, width), patches_per_side)
    assert (masks.sum(axis=0) > 0).all()
    assert len(set(masks.sum(axis=(1, 2)).tolist())) == 1
