"""Answers of a real predictor: those of `predict`, whatever the batch; explanations; and what cannot be served."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from cervix_jax.explainers.methods import METHODS
from cervix_jax.images.boxes import LocatedBox
from cervix_jax.images.files import UnreadableError
from cervix_jax.inference import decisions
from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.predictor import Predictor
from cervix_jax.serving.service import NOTE, Service, ServiceError, batch_sizes, prediction_json
from tests.serving.conftest import SURE, jpeg


@pytest.fixture(scope="module")
def service(_finished_run):
    predictor = Predictor.restore([_finished_run[0]])
    labels = np.arange(60) % 3
    calibration = Calibration(2.0, 0.1 + 0.7 * np.eye(3)[labels], labels, {})
    predictor = dataclasses.replace(predictor, calibration=calibration)
    return Service(predictor, DecisionRule.fit(calibration, 0.9), batch_size=4)


@pytest.fixture(scope="module")
def files(manual_dir):
    return [path.read_bytes() for path in sorted((manual_dir / "test").iterdir())[:3]]


def test_answers_are_those_of_predict_and_of_no_company(service, files) -> None:
    photographs = [service.predictor.read(raw, with_features=True) for raw in files]
    wanted = decisions.predict(service.predictor, service.rule, ["", "", ""], photographs, 32)
    answers = service.predict([files[0], b"damaged", *files[1:]])
    assert answers.pop(1) == {"error": {"code": "unreadable", "message": "not a picture"}}
    for answer, prediction, raw in zip(answers, wanted, files, strict=True):
        assert answer | {"probabilities": {}} == prediction_json(prediction) | {"probabilities": {}}
        assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-5)
        (alone,) = service.predict([raw])
        assert alone["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
    assert service.predict([b"", b"x"]) == [
        {"error": {"code": "unreadable", "message": reason}} for reason in ("empty file", "not a picture")
    ]


def test_an_explanation_is_a_picture_of_the_photograph_s_size(service, files) -> None:
    picture = service.explain(files[0], "saliency", "Type_2")
    with Image.open(io.BytesIO(picture)) as shown, Image.open(io.BytesIO(files[0])) as photograph:
        assert (shown.format, shown.size) == ("JPEG", photograph.size)
        assert np.ptp(np.asarray(shown).astype(int), axis=2).max() > 50  # colours on grey
    with pytest.raises(UnreadableError, match="not a picture"):
        service.explain(b"damaged", "saliency", None)
    with pytest.raises(UnreadableError, match="too long a strip"):
        service.explain(jpeg(Image.new("RGB", (9000, 480))), "saliency", None)


def test_it_says_what_answers_rest_on(service) -> None:
    about = service.about()
    assert about["model"] == "run"
    assert (about["temperature"], about["reference"], about["coverage"], about["site"]) == (2.0, 60, 0.9, None)
    at_site = Service(service.predictor, service.rule, 4, "north").about()
    assert at_site == about | {"site": "north"}
    assert list(about["methods"]) == list(METHODS)
    assert about["default_method"] in METHODS
    assert about["note"] == NOTE


def test_a_box_is_told_where_there_is_one() -> None:
    assert prediction_json(SURE)["box"] is None
    found = dataclasses.replace(SURE, located=LocatedBox((0.1, 0.2, 0.3, 0.4), 0.5))
    assert prediction_json(found)["box"] == {"corners": [0.1, 0.2, 0.3, 0.4], "confidence": 0.5}


def test_what_cannot_say_that_it_does_not_know_is_not_served(service) -> None:
    with pytest.raises(ServiceError, match="--coverage"):
        Service(service.predictor, DecisionRule(), 4)

    class OneAgainstTheRest(Predictor):
        class_names = ("rest", "Type_3")

    predictor = service.predictor
    other = OneAgainstTheRest(predictor.members, predictor.rule, (), predictor.mesh)
    with pytest.raises(ServiceError, match="three types"):
        Service(other, service.rule, 4)


def test_batches_are_padded_to_powers_of_two() -> None:
    assert [batch_sizes(largest) for largest in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
