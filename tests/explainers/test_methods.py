"""Each method against what it is by definition: finite differences, closed forms, completeness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.explainers import gradients
from cervix_jax.explainers.grad_cam import grad_cam
from cervix_jax.explainers.methods import METHODS
from cervix_jax.explainers.occlusion import occlusion, patches
from cervix_jax.explainers.predictor_score import LayerError, PredictorScore
from tests.explainers.nets import drawn, make_member, make_predictor

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
        found = gradients.integrated_gradients(score, IMAGES, base, steps=200)
        expected = score(IMAGES) - score(base)
        np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), expected, rtol=2e-3, atol=2e-2)
    np.testing.assert_array_equal(
        gradients.integrated_gradients(score, IMAGES), gradients.integrated_gradients(score, IMAGES, baseline)
    )


def test_integrated_gradients_of_a_linear_score_are_weight_times_change() -> None:
    found = gradients.integrated_gradients(linear, IMAGES, steps=1)
    np.testing.assert_allclose(found, WEIGHTS * (IMAGES - gradients.mean_colour(IMAGES)), rtol=1e-4, atol=1e-3)


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
    found = gradients.smooth_grad(cubic, images, key, samples=4000, noise=0.5)
    np.testing.assert_allclose(found, expected, atol=0.1)


class OneConvolution(nn.Module):
    """A convolution, the mean over the map, a linear layer: class activation maps are defined on this."""

    @nn.compact
    def __call__(self, x, perturbation=0.0):
        maps = nn.relu(nn.Conv(4, (3, 3))(x)) + perturbation
        return nn.Dense(3)(maps.mean(axis=(1, 2))), maps


def test_grad_cam_is_the_class_activation_map() -> None:
    """Selvaraju et al. 2017, section 3.1: on such a network it is CAM (Zhou et al. 2016), divided by the map's size."""
    net, x = OneConvolution(), IMAGES / 255
    variables = net.init(jax.random.key(3), x)
    _, maps = net.apply(variables, x)
    kernel = variables["params"]["Dense_0"]["kernel"]
    for class_index in range(3):

        def score(perturbations, class_index=class_index):
            logits, maps = net.apply(variables, x, perturbations[0])
            return logits[:, class_index], [maps]

        (found,) = grad_cam(score, [maps.shape])
        expected = np.maximum(np.asarray(maps @ kernel[:, class_index]), 0) / (6 * 5)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_occlusion_of_a_linear_score_is_the_mean_over_patches() -> None:
    masks = patches((6, 5), 3)
    change = np.asarray(WEIGHTS * (IMAGES - gradients.mean_colour(IMAGES)))
    expected = np.zeros((2, 6, 5))
    for row, column in np.ndindex(6, 5):
        covering = [mask for mask in masks if mask[row, column]]
        falls = [(change * mask[:, :, None]).sum(axis=(1, 2, 3)) for mask in covering]
        expected[:, row, column] = np.mean(falls, axis=0)
    np.testing.assert_allclose(occlusion(linear, IMAGES, parts=3), expected, rtol=1e-3, atol=1e-2)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 10))
def test_patches_cover_every_pixel_and_have_one_size(height: int, width: int, parts: int) -> None:
    masks = patches((height, width), parts)
    assert (masks.sum(axis=0) > 0).all()
    assert len(set(masks.sum(axis=(1, 2)).tolist())) == 1


def test_a_score_without_a_gradient_gives_zeros() -> None:
    for found in (
        gradients.saliency(constant, IMAGES),
        gradients.smooth_grad(constant, IMAGES, jax.random.key(0)),
        gradients.integrated_gradients(constant, IMAGES),
        occlusion(constant, IMAGES),
    ):
        np.testing.assert_array_equal(found, 0)


def test_maps_are_the_positive_parts() -> None:
    attributions = jax.random.normal(jax.random.key(0), (2, 3, 4, 3))
    largest = gradients.positive_part(attributions)
    np.testing.assert_array_equal(largest, np.maximum(attributions.max(axis=-1), 0))
    np.testing.assert_allclose(
        gradients.positive_sum(attributions), np.maximum(attributions.sum(axis=-1), 0), atol=1e-6
    )


@pytest.fixture(scope="module")
def whole():
    """Maps of four photographs at once, by every method."""
    predictor = make_predictor(make_member())
    images = jnp.asarray(drawn(0, n=4), jnp.float32)
    return predictor, images, {name: maps_of(predictor, images, name) for name in METHODS}


def maps_of(predictor, images, name, classes=(0, 1, 2, 1)):
    score = PredictorScore.of(predictor, np.array(classes), "type")
    layers = tuple(score.layers((images,)))
    return np.asarray(METHODS[name].maps(score, (images,), layers, jax.random.key(0))[0])


@pytest.mark.parametrize("name", [name for name in METHODS if name != "smooth_grad"])
def test_an_explanation_depends_on_its_photograph_alone(whole, name: str) -> None:
    predictor, images, maps = whole
    alone = maps_of(predictor, images[2:3], name, classes=(2,))
    np.testing.assert_allclose(alone[0], maps[name][2], rtol=1e-3, atol=1e-4 * maps[name][2].max())


def test_integrated_gradients_of_a_network_are_complete_at_the_default_number_of_steps(whole) -> None:
    predictor, images, _ = whole
    score = PredictorScore.of(predictor, np.array([0, 1, 2, 1]), "margin")
    (found,) = jax.jit(gradients.integrated_gradients)(score, (images,))
    difference = score((images,)) - score(gradients.mean_colour((images,)))
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), difference, rtol=0.05, atol=0.02 * np.abs(difference).max())


@pytest.mark.parametrize("name", METHODS)
def test_other_weights_are_explained_otherwise(whole, name: str) -> None:
    """Adebayo et al. 2018: an explanation that does not feel the weights explains nothing."""
    _, images, maps = whole
    assert maps[name].min() >= 0
    assert maps[name].max() > 0
    other = maps_of(make_predictor(make_member(1)), images, name)
    assert np.corrcoef(maps[name].ravel(), other.ravel())[0, 1] < 0.7


def test_layers_are_the_network_s_in_order() -> None:
    images = (jnp.asarray(drawn(0), jnp.float32),)
    score = PredictorScore.of(make_predictor(make_member()), np.array([0, 1]), "type")
    assert list(score.feature_maps(0, images)) == ["stem", "stage1_block1", "stage2_block1"]
    assert score.layers(images) == ["stage2_block1"]
    assert score.layers(images, "stem") == ["stem"]
    with pytest.raises(LayerError, match="no layer 'stage3'; the feature maps are stem, stage1_block1, stage2_block1"):
        score.layers(images, "stage3")
    vanilla = make_predictor(make_member(model__name="vanilla_cnn"))
    assert PredictorScore.of(vanilla, np.array([0, 1]), "type").layers(images) == ["group5"]


@pytest.mark.parametrize("trainable", ["none", "all"])
def test_gradients_reach_pixels_and_layers_through_a_backbone(trainable: str) -> None:
    member = make_member(model__backbone__name="resnet50", model__backbone__cut=6, model__backbone__trainable=trainable)
    images = (jnp.asarray(drawn(0), jnp.float32),)
    score = PredictorScore.of(make_predictor(member), np.array([0, 1]), "type")
    layer = "conv1_bn"  # after the activation equal zeros meet in the max-pool, which has no gradient there
    shape = score.feature_maps(0, images)[layer].shape
    with jax.enable_x64(True):  # so that small steps, which cross few kinks, are seen; pixels are float32 in any case
        score, images = jax.tree.map(
            lambda x: jnp.asarray(np.asarray(x), jnp.float64) if x.dtype != jnp.int32 else x, (score, images)
        )
        score = score.replace(models=(score.models[0].copy(dtype=jnp.float64),))

        @jax.jit
        def total(pixels, perturbation):
            return score.with_layers([layer], (images[0] + pixels,), [{layer: perturbation}])[0].sum()

        zeros = jnp.zeros_like(images[0]), jnp.zeros(shape)
        pixels, maps = jax.grad(total, argnums=(0, 1))(*zeros)
        step = 0.01 * jnp.sign(pixels)
        difference = (total(step, zeros[1]) - total(-step, zeros[1])) / 2
        np.testing.assert_allclose((pixels * step).sum(), difference, rtol=1e-2)
        step = 1e-5 * jnp.sign(maps)
        difference = (total(zeros[0], step) - total(zeros[0], -step)) / 2
        np.testing.assert_allclose((maps * step).sum(), difference, rtol=1e-2)
        assert jnp.abs(pixels).max() > 0
        assert jnp.abs(maps).max() > 0
