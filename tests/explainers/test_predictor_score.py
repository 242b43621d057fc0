"""The score that is explained belongs to the probabilities that are predicted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax.explainers.predictor_score import LayerError, PredictorScore
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures

BINARY = [("rest", name) for name in CLASS_NAMES]
PREDICTORS = {
    "one run": lambda: make_predictor(make_member()),
    "weighted": lambda: make_predictor(make_member(0, 0.7), make_member(1, 0.9), make_member(2, 1.3)),
    "plain": lambda: make_predictor(make_member(0), make_member(1), rule="mean"),
    "geometric": lambda: make_predictor(make_member(0), make_member(1), rule="geometric"),
    "other sizes": lambda: make_predictor(make_member(0), make_member(1, dataset__image_size=(16, 16))),
    "one against the rest": lambda: make_predictor(
        *(make_member(seed, class_names=names) for seed, names in enumerate([*BINARY, BINARY[1]]))
    ),
    "one against the rest, geometric": lambda: make_predictor(
        *(make_member(seed, class_names=names) for seed, names in enumerate([*BINARY, BINARY[1]])), rule="geometric"
    ),
}


def photographs(predictor: Predictor) -> list[Photograph]:
    inputs = [random_pictures(0, size=seen.transform.size) for seen in predictor.network_inputs]
    return [Photograph(tuple(images[i] for images in inputs), b"", (24, 16), (None,) * len(inputs)) for i in range(2)]


def as_images(read: list[Photograph]):
    return tuple(jnp.asarray(np.stack(images), jnp.float32) for images in zip(*(p.images for p in read), strict=True))


def scores(predictor: Predictor, classes, target: str, read: list[Photograph]):
    return jax.jit(PredictorScore.__call__)(PredictorScore.of(predictor, classes, target), as_images(read))


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_margin_is_the_log_odds_of_what_is_predicted(name: str) -> None:
    predictor = PREDICTORS[name]()
    read = photographs(predictor)
    probabilities = predictor.probabilities(read)
    for classes in ([0, 1], [2, 0]):
        score = scores(predictor, np.array(classes), "margin", read)
        own = probabilities[[0, 1], classes]
        np.testing.assert_allclose(score, np.log(own / (1 - own)), rtol=1e-3, atol=1e-4)


def test_the_type_is_its_logit_and_of_several_runs_the_weighted_mean() -> None:
    members = make_member(0, 0.7), make_member(1, 0.9)
    predictor = make_predictor(*members)
    read = photographs(predictor)
    logits = [np.asarray(member.forward(member.variables, as_images(read)[0])[0]) for member in members]
    score = scores(predictor, np.array([2, 1]), "type", read)
    mean = (0.25 * logits[0] + 0.05 * logits[1]) / 0.30
    np.testing.assert_allclose(score, mean[[0, 1], [2, 1]], rtol=1e-4)


def test_layers_are_the_network_s_in_order() -> None:
    images = (jnp.asarray(random_pictures(0), jnp.float32),)
    score = PredictorScore.of(make_predictor(make_member()), np.array([0, 1]), "type")
    assert list(score.feature_maps(0, images)) == ["stem", "stage1_block1", "stage2_block1"]
    assert score.choose_layers(images).layers == ("stage2_block1",)
    assert score.choose_layers(images, "stem").layers == ("stem",)
    with pytest.raises(LayerError, match="no layer 'stage3'; the feature maps are stem, stage1_block1, stage2_block1"):
        score.choose_layers(images, "stage3")
    vanilla = make_predictor(make_member(model__name="vanilla_cnn"))
    assert PredictorScore.of(vanilla, np.array([0, 1]), "type").choose_layers(images).layers == ("group5",)


@pytest.mark.parametrize("trainable", ["none", "all"])
def test_gradients_reach_pixels_and_layers_through_a_backbone(trainable: str) -> None:
    member = make_member(model__backbone__name="resnet50", model__backbone__cut=6, model__backbone__trainable=trainable)
    images = (jnp.asarray(random_pictures(0), jnp.float32),)
    layer = "conv1_bn"  # after the activation equal zeros meet in the max-pool, which has no gradient there
    score = PredictorScore.of(make_predictor(member), np.array([0, 1]), "type", (layer,))
    (shape,) = score.layer_shapes(images)
    with jax.enable_x64(True):  # so that small steps, which cross few kinks, are seen; pixels are float32 in any case
        score, images = jax.tree.map(
            lambda x: jnp.asarray(np.asarray(x), jnp.float64) if x.dtype != jnp.int32 else x, (score, images)
        )
        score = score.replace(models=(score.models[0].copy(dtype=jnp.float64),))

        @jax.jit
        def total(pixels, perturbation):
            return score.with_perturbations((images[0] + pixels,), [perturbation])[0].sum()

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
