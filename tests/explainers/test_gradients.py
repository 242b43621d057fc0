"""Gradient methods against what defines them: finite differences, completeness, means over noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax.explainers import gradients

IMAGES = jax.random.uniform(jax.random.key(0), (2, 6, 5, 3), maxval=255)
WEIGHTS = jax.random.normal(jax.random.key(1), (6, 5, 3))


def linear(images):
    return jnp.tensordot(images, WEIGHTS, axes=3)


def curved(images):
    """Differs between examples and is not linear."""
    return jnp.sin(linear(images) / 300) * 10 + jnp.square(images / 255).mean(axis=(1, 2, 3))


def constant(images):
    return jnp.zeros(len(images)) + 0 * images.sum(axis=(1, 2, 3))


def test_the_gradient_is_that_of_finite_differences() -> None:
    with jax.enable_x64(True):
        images = jnp.asarray(np.asarray(IMAGES), jnp.float64)
        found = np.asarray(gradients.gradient(curved, images))
        for place in [(0, 0, 0), (3, 2, 1), (5, 4, 2)]:
            step = jnp.zeros(images.shape[1:]).at[place].set(1e-3)
            difference = (curved(images + step) - curved(images - step)) / 2e-3
            np.testing.assert_allclose(found[(slice(None), *place)], difference, rtol=1e-6)
    positive = np.maximum(found, 0).max(axis=-1)
    np.testing.assert_allclose(gradients.saliency(curved, IMAGES), positive, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("score", [linear, curved])
def test_integrated_gradients_are_complete(score) -> None:
    """They sum to the difference of the scores (Sundararajan et al. 2017, proposition 1)."""
    baseline = gradients.mean_colour(IMAGES)
    np.testing.assert_allclose(baseline[0, 2, 3], IMAGES[0].mean(axis=(0, 1)), rtol=1e-5)
    for base in (baseline, jnp.zeros_like(IMAGES)):
        attributions = gradients.integrated_gradients(score, IMAGES, base, steps=200)
        expected = score(IMAGES) - score(base)
        np.testing.assert_allclose(attributions.sum(axis=(1, 2, 3)), expected, rtol=2e-3, atol=2e-2)
    np.testing.assert_array_equal(
        gradients.integrated_gradients(score, IMAGES), gradients.integrated_gradients(score, IMAGES, baseline)
    )


def test_integrated_gradients_of_a_linear_score_are_weight_times_change() -> None:
    attributions = gradients.integrated_gradients(linear, IMAGES, steps=1)
    np.testing.assert_allclose(attributions, WEIGHTS * (IMAGES - gradients.mean_colour(IMAGES)), rtol=1e-4, atol=1e-3)


def test_smooth_grad_is_saliency_without_noise_and_averages_with_it() -> None:
    key = jax.random.key(2)
    plain = gradients.saliency(curved, IMAGES)
    still = gradients.smooth_grad(curved, IMAGES, key, samples=3, noise=0.0)
    np.testing.assert_allclose(still, plain, rtol=1e-5)
    # A cubic score has a quadratic gradient, whose mean under noise of deviation s is larger by s^2.
    images = IMAGES / 255

    def cubic(x):
        return (x**3).sum(axis=(1, 2, 3)) / 3

    spread = images.max(axis=(1, 2, 3)) - images.min(axis=(1, 2, 3))
    expected = (jnp.square(images) + jnp.square(0.5 * spread)[:, None, None, None]).max(axis=-1)
    smooth = gradients.smooth_grad(cubic, images, key, samples=4000, noise=0.5)
    np.testing.assert_allclose(smooth, expected, atol=0.1)


def test_a_score_without_a_gradient_gives_zeros() -> None:
    for maps in (
        gradients.saliency(constant, IMAGES),
        gradients.smooth_grad(constant, IMAGES, jax.random.key(0)),
        gradients.integrated_gradients(constant, IMAGES),
    ):
        np.testing.assert_array_equal(maps, 0)


def test_maps_are_the_positive_parts() -> None:
    attributions = jax.random.normal(jax.random.key(0), (2, 3, 4, 3))
    largest = gradients.positive_part(attributions)
    np.testing.assert_array_equal(largest, np.maximum(attributions.max(axis=-1), 0))
    np.testing.assert_allclose(
        gradients.positive_sum(attributions), np.maximum(attributions.sum(axis=-1), 0), atol=1e-6
    )
