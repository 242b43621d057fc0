"""The score that is explained belongs to the probabilities that are predicted."""

import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax.explainers.predictor_score import PredictorScore
from cervix_jax.inference.predictor import Photograph, Predictor
from cervix_jax.labels import CLASS_NAMES
from tests.explainers.nets import drawn, make_member, make_predictor

BINARY = [("rest", name) for name in CLASS_NAMES]
PREDICTORS = {
    "one run": lambda: make_predictor(make_member()),
    "weighted": lambda: make_predictor(make_member(0, 0.7), make_member(1, 0.9), make_member(2, 1.3)),
    "plain": lambda: make_predictor(make_member(0), make_member(1), rule="mean"),
    "geometric": lambda: make_predictor(make_member(0), make_member(1), rule="geometric"),
    "other views": lambda: make_predictor(make_member(0), make_member(1, dataset__image_size=(16, 16))),
    "one against the rest": lambda: make_predictor(
        *(make_member(seed, class_names=names) for seed, names in enumerate([*BINARY, BINARY[1]]))
    ),
    "one against the rest, geometric": lambda: make_predictor(
        *(make_member(seed, class_names=names) for seed, names in enumerate([*BINARY, BINARY[1]])), rule="geometric"
    ),
}


def photographs(predictor: Predictor) -> list[Photograph]:
    views = [drawn(0, size=view.size) for view in predictor.views]
    return [Photograph(tuple(view[i] for view in views), b"") for i in range(2)]


def as_views(predictor: Predictor, found: list[Photograph]):
    return tuple(jnp.asarray(np.stack([p.images[i] for p in found]), jnp.float32) for i in range(len(predictor.views)))


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_margin_is_the_log_odds_of_what_is_predicted(name: str) -> None:
    predictor = PREDICTORS[name]()
    found = photographs(predictor)
    probabilities = predictor.probabilities(found)
    for classes in ([0, 1], [2, 0]):
        score = PredictorScore.of(predictor, np.array(classes), "margin")(as_views(predictor, found))
        own = probabilities[[0, 1], classes]
        np.testing.assert_allclose(score, np.log(own / (1 - own)), rtol=1e-3, atol=1e-4)


def test_the_type_is_its_logit_and_of_several_runs_the_weighted_mean() -> None:
    members = make_member(0, 0.7), make_member(1, 0.9)
    predictor = make_predictor(*members)
    images = as_views(predictor, photographs(predictor))
    logits = [np.asarray(member.forward(member.variables, images[0])) for member in members]
    score = PredictorScore.of(predictor, np.array([2, 1]), "type")(images)
    mean = (0.25 * logits[0] + 0.05 * logits[1]) / 0.30
    np.testing.assert_allclose(score, mean[[0, 1], [2, 1]], rtol=1e-4)


def test_weights_sum_to_one_in_each_mean() -> None:
    assert make_predictor(make_member(0, 0.7), make_member(1, 1.2)).weights.tolist() == [1.0, 0.0]
    predictor = PREDICTORS["one against the rest"]()
    assert predictor.own_types == (0, 1, 2, 1)
    np.testing.assert_allclose(predictor.weights, [1, 0.5, 1, 0.5])
