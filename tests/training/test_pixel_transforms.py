"""Changes of pixels against what their options promise, SciPy, and colours whose result is known."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cervix_jax.training.pixel_transforms import blur, cut_out, jitter_color, rotate_hue, scale_saturation

HEIGHT, WIDTH = 12, 9
IMAGE = jax.random.uniform(jax.random.key(1), (HEIGHT, WIDTH, 3)) * 255
PALE = 100 + IMAGE / 10  # 100 to 126: nothing is clipped


def many(transform, image, strength: float, count: int = 400) -> np.ndarray:
    keys = jax.random.split(jax.random.key(3), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: transform(image, key, strength=strength)))(keys))


def test_color_jitter_scales_the_mean_of_channels_and_the_contrast() -> None:
    jittered = many(jitter_color, PALE, 0.2)
    means = jittered.mean(axis=(1, 2)) / np.asarray(PALE).mean(axis=(0, 1))
    np.testing.assert_allclose([means.min(0), means.max(0)], [[0.8] * 3, [1.2] * 3], atol=0.01)
    assert np.abs(np.corrcoef(means.T) - np.eye(3)).max() < 0.15  # channels change each for itself
    contrasts = jittered.std(axis=(1, 2)) / np.asarray(PALE).std(axis=(0, 1))
    np.testing.assert_allclose(contrasts, np.broadcast_to(contrasts[:, :1], contrasts.shape), rtol=1e-3)
    np.testing.assert_allclose([contrasts.min(), contrasts.max()], [0.8, 1.2], atol=0.01)


def test_hue_turns_colours_and_keeps_grey_brightness_and_saturation() -> None:
    grey = jnp.full((2, 2, 3), 77.0)
    np.testing.assert_allclose(many(rotate_hue, grey, 180.0, 20), 77, atol=1e-3)
    turned = many(rotate_hue, PALE, 30.0)
    original = np.asarray(PALE)
    np.testing.assert_allclose(turned.mean(axis=-1), np.broadcast_to(original.mean(-1), turned.shape[:-1]), rtol=1e-5)
    chroma = [np.linalg.norm(x - x.mean(axis=-1, keepdims=True), axis=-1) for x in (turned, original)]
    np.testing.assert_allclose(chroma[0], np.broadcast_to(chroma[1], chroma[0].shape), rtol=1e-3, atol=1e-3)
    plane = np.array([[2, -1, -1], [0, np.sqrt(3), -np.sqrt(3)]]) @ np.moveaxis(turned, -1, 1).reshape(400, 3, -1)
    first = np.array([[2, -1, -1], [0, np.sqrt(3), -np.sqrt(3)]]) @ original.reshape(-1, 3).T
    angles = np.rad2deg(np.angle((plane[:, 0] + 1j * plane[:, 1]) / (first[0] + 1j * first[1])))
    np.testing.assert_allclose(angles, np.broadcast_to(angles[:, :1], angles.shape), atol=0.1)  # one turn an image
    np.testing.assert_allclose([angles.min(), angles.max()], [-30, 30], atol=1)


def test_a_third_of_a_turn_makes_red_green(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `colorsys`: the hue of the result is that of the colour a third further."""
    monkeypatch.setattr(jax.random, "uniform", lambda *args, **kwargs: jnp.ones(()))  # the largest turn
    red = jnp.array([[[150.0, 100.0, 100.0]]])
    (pixel,) = np.asarray(rotate_hue(red, jax.random.key(0), strength=120.0))[0]
    np.testing.assert_allclose(pixel, [100, 150, 100], atol=1e-3)
    assert colorsys.rgb_to_hsv(*(pixel / 255))[0] == pytest.approx(1 / 3, abs=1e-4)


def test_saturation_scales_what_is_not_grey() -> None:
    changed, original = many(scale_saturation, PALE, 0.4), np.asarray(PALE)
    chroma = original - original.mean(axis=-1, keepdims=True)
    factors = ((changed - changed.mean(axis=-1, keepdims=True)) * chroma).sum(axis=(1, 2, 3)) / np.square(chroma).sum()
    expected = original.mean(axis=-1, keepdims=True) + factors[:, None, None, None] * chroma
    np.testing.assert_allclose(changed, expected, atol=0.01)
    np.testing.assert_allclose([factors.min(), factors.max()], [0.6, 1.4], atol=0.01)


def test_blur_is_scipy_s_gaussian_filter_of_sigmas_that_fill_their_range() -> None:
    """An impulse gives the weights, of which the variance is that of the Gaussian."""
    impulse = jnp.zeros((31, 31, 1)).at[15, 15].set(255.0)
    blurred = many(blur, impulse, 2.0, 200) / 255
    np.testing.assert_allclose(blurred.sum(axis=(1, 2, 3)), 1, rtol=1e-5)
    rows = blurred.sum(axis=(2, 3))
    sigmas = np.sqrt((rows * np.square(np.arange(31) - 15)).sum(axis=1))
    assert sigmas.min() < 0.4
    assert 1.85 < sigmas.max() <= 2.0
    for i in (int(sigmas.argmax()), 7):
        image = many(blur, IMAGE, 2.0, 200)[i]
        weights = rows[i, 9:22]
        expected = ndimage.correlate1d(np.asarray(IMAGE, float), weights, axis=0, mode="nearest")
        expected = ndimage.correlate1d(expected, weights, axis=1, mode="nearest")
        np.testing.assert_allclose(image, expected, atol=0.01)
        sigma = np.sqrt(-0.5 / np.log(weights[7] / weights[6]))
        gaussian = ndimage.gaussian_filter(
            np.asarray(IMAGE, float), (sigma, sigma, 0), mode="nearest", radius=(6, 6, 0)
        )
        np.testing.assert_allclose(image, gaussian, atol=0.05)


def test_cutout_blanks_a_rectangle_of_its_size_and_nothing_else() -> None:
    results = many(cut_out, IMAGE, 0.5, 200)
    changed = (results != np.asarray(IMAGE)).any(axis=-1)
    np.testing.assert_allclose(
        results[changed], np.broadcast_to(IMAGE.mean(axis=(0, 1)), results[changed].shape), rtol=1e-5
    )
    rows, columns = changed.any(axis=2).sum(axis=1), changed.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(changed.sum(axis=(1, 2)), rows * columns)  # a rectangle
    assert rows.max() == HEIGHT // 2
    assert columns.max() == WIDTH // 2 + 1  # 4.5 pixels
    assert changed.any(axis=0).all()  # every pixel has its turn


@pytest.mark.parametrize("transform", [jitter_color, rotate_hue, scale_saturation, blur])
def test_results_stay_photographs(transform) -> None:
    changed = many(transform, IMAGE, 0.9, 50)
    assert changed.min() >= 0
    assert changed.max() <= 255 + 1e-3
