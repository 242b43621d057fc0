"""Every method on networks: it depends on its photograph alone, feels the weights, and lies in the frame."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cervix_jax.explainers import gradients
from cervix_jax.explainers.methods import METHODS, explain
from cervix_jax.explainers.predictor_score import PredictorScore
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures


@pytest.fixture(scope="module")
def whole():
    """Maps of four photographs at once, by every method."""
    predictor = make_predictor(make_member())
    images = jnp.asarray(random_pictures(0, n=4), jnp.float32)
    return predictor, images, {name: maps_of(predictor, images, name) for name in METHODS}


def maps_of(predictor, images, name, classes=(0, 1, 2, 1)):
    score = PredictorScore.of(predictor, np.array(classes), "type")
    if METHODS[name].reads_layers:
        score = score.choose_layers((images,))
    return np.asarray(jax.jit(METHODS[name].maps)(score, (images,), jax.random.key(0))[0])


@pytest.mark.parametrize("name", [name for name in METHODS if name != "smooth_grad"])
def test_an_explanation_depends_on_its_photograph_alone(whole, name: str) -> None:
    predictor, images, maps = whole
    alone = maps_of(predictor, images[2:3], name, classes=(2,))
    np.testing.assert_allclose(alone[0], maps[name][2], rtol=1e-3, atol=1e-4 * maps[name][2].max())


def test_integrated_gradients_of_a_network_are_complete_at_the_default_number_of_steps(whole) -> None:
    predictor, images, _ = whole
    score = PredictorScore.of(predictor, np.array([0, 1, 2, 1]), "margin")
    (attributions,) = jax.jit(gradients.integrated_gradients)(score, (images,))
    scores = jax.jit(PredictorScore.__call__)
    difference = scores(score, (images,)) - scores(score, gradients.mean_colour((images,)))
    tolerance = 0.02 * np.abs(difference).max()
    np.testing.assert_allclose(attributions.sum(axis=(1, 2, 3)), difference, rtol=0.05, atol=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_other_weights_are_explained_otherwise(whole, name: str) -> None:
    """Adebayo et al. 2018: an explanation that does not feel the weights explains nothing."""
    _, images, maps = whole
    assert maps[name].min() >= 0
    assert maps[name].max() > 0
    other = maps_of(make_predictor(make_member(1)), images, name)
    assert np.corrcoef(maps[name].ravel(), other.ravel())[0, 1] < 0.7


def photographs(predictor, sizes):
    files = []
    for seed, size in enumerate(sizes):
        out = io.BytesIO()
        Image.fromarray(random_pictures(seed, size, 1)[0]).save(out, "PNG")
        files.append(out.getvalue())
    return [predictor.read(file) for file in files]


def test_the_type_that_is_asked_for_is_explained_in_the_frame_of_its_photograph() -> None:
    predictor = make_predictor(make_member())
    read = photographs(predictor, [(60, 40), (48, 48)])
    for explanation, size in zip(explain(predictor, read, ["saliency"]), [(60, 40), (48, 48)], strict=True):
        assert explanation.class_index == explanation.probabilities.argmax()
        assert explanation.heat["saliency"].shape == size
    first, second = explain(predictor, read, ["saliency"], classes=np.array([2, 0]))
    assert (first.class_index, second.class_index) == (2, 0)


def test_members_that_see_photographs_otherwise_count_by_what_they_add() -> None:
    """Two members with the same weights, one of which sees a quarter of the pixels, say as much as each other."""
    small, large = make_member(0, dataset__image_size=(24, 16)), make_member(0, dataset__image_size=(48, 32))
    heat = []
    for members in ((small,), (large,), (small, large)):
        predictor = make_predictor(*members)
        (explanation,) = explain(predictor, photographs(predictor, [(96, 64)]), ["saliency"], classes=np.array([1]))
        heat.append(explanation.heat["saliency"])
    np.testing.assert_allclose(heat[2], 0.5 * (heat[0] + heat[1]), rtol=1e-3, atol=1e-4 * heat[0].max())
    assert 0.2 < heat[0].sum() / heat[1].sum() < 5  # not by the ratio of the pixels
