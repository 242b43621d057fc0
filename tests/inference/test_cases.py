"""External validation: labelled folders, what a run has seen or cannot read, and how far they are from training."""

import dataclasses
import shutil

import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.data import pipeline, synthetic
from cervix_jax.inference.cases import folder_cases, split_cases
from cervix_jax.inference.evaluation import UnlabelledError, evaluate, shift
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.reading import NoPhotographsError


@pytest.fixture
def predictor(run):
    return Predictor.restore([run[0]])


@pytest.fixture
def elsewhere(tmp_path):
    synthetic.write_folder(tmp_path / "elsewhere", seed=9, counts={"train": 20, "additional": 0, "test": 0})
    return tmp_path / "elsewhere/train"


def test_a_labelled_folder_is_measured_without_what_was_seen_or_cannot_be_read(predictor, elsewhere, manual_dir):
    seen = min((manual_dir / "train/Type_2").iterdir())
    shutil.copy(seen, elsewhere / "Type_3/copy.jpg")  # under another name and type
    (elsewhere / "Type_1/empty.jpg").write_bytes(b"")
    cases = folder_cases(predictor, elsewhere)
    assert cases.seen == ("Type_3/copy.jpg",)
    assert cases.skipped == ({"image_name": "Type_1/empty.jpg", "reason": "empty file"},)
    assert len(cases.photographs) == 20
    assert [f"Type_{label + 1}" for label in cases.labels] == [name.split("/")[0] for name in cases.ids]
    found, probabilities = evaluate(predictor, cases)
    assert found["num_examples"] == len(probabilities) == 20
    assert found["seen"] == ["Type_3/copy.jpg"]
    assert 0 <= found["shift"]["scores"]["log_density"]["auroc"] <= 1


def test_a_folder_of_seen_photographs_alone_measures_nothing(predictor, manual_dir, tmp_path):
    with pytest.raises(NoPhotographsError, match="cannot be read or was trained on"):
        folder_cases(predictor, manual_dir / "train")
    with pytest.raises(NoPhotographsError, match="no pictures in folders Type_1, Type_2, Type_3"):
        folder_cases(predictor, tmp_path)


def test_shift_is_none_for_the_same_and_plain_for_other_pictures(predictor, elsewhere):
    same = shift(predictor.gate, folder_cases(predictor, elsewhere).photographs)["scores"]
    blurred = [
        dataclasses.replace(photograph, scores=photograph.scores._replace(sharpness=1.0))
        for photograph in folder_cases(predictor, elsewhere).photographs
    ]
    other = shift(predictor.gate, blurred)
    assert 0.25 < same["sharpness"]["auroc"] < 0.75
    assert other["scores"]["sharpness"]["auroc"] == 1
    assert other["scores"]["sharpness"]["median"] == 1


def test_only_the_run_s_own_data_has_its_splits(predictor, run):
    data = pipeline.prepared(predictor.data_config)
    predictor.check_data(data.fingerprint)
    with pytest.raises(runs.RunError, match="other photographs"):
        predictor.check_data("of another folder")
    cases = split_cases(predictor, data.examples("validation"), "validation")
    assert cases.validation
    assert not split_cases(predictor, data.examples("train"), "train").validation
    np.testing.assert_array_equal(cases.labels, data.examples("validation").labels)
    with pytest.raises(UnlabelledError, match="without labels"):
        evaluate(predictor, split_cases(predictor, data.examples("test"), "test"))
