"""The public API: what a notebook does, with the numbers of the programs, and a package that imports fast."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import cervix_jax
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import UnreadableError
from cervix_jax.inference.calibration import Calibration, CalibrationError
from cervix_jax.inference.decisions import DecisionRuleError
from cervix_jax.inference.prediction_files import predict_folder
from cervix_jax.inference.predictor import Predictor
from cervix_jax.plots.explanation_files import MethodError


@pytest.fixture(scope="module")
def classifier(_finished_run):
    return cervix_jax.load(_finished_run[0])


def test_importing_the_package_imports_neither_jax_nor_anything_else_that_is_slow() -> None:
    code = "import sys, cervix_jax; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"jax", "numpy", "PIL", "cervix_jax.api"} & set(loaded)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cervix_jax.nothing


def test_predictions_are_those_of_the_program(classifier, manual_dir, tmp_path) -> None:
    paths = sorted((manual_dir / "test").iterdir())
    predictions = classifier.predict(paths, batch_size=3)
    predict_folder(classifier.predictor, manual_dir / "test", tmp_path / "p.csv")
    for name in ("p.csv", "p.decisions.csv"):
        with (tmp_path / name).open(newline="") as file:
            rows = {row["image_name"]: row for row in csv.DictReader(file)}
        for path, prediction in zip(paths, predictions, strict=True):
            row = rows[path.name]
            if name == "p.csv":
                for class_name, probability in prediction.probabilities.items():
                    assert float(row[class_name]) == pytest.approx(probability, abs=1e-6)
            else:
                assert (row["type"], row["decision"], row["retake"]) == (
                    prediction.type,
                    prediction.decision,
                    prediction.retake,
                )
                assert float(row["quality"]) == pytest.approx(prediction.quality, abs=1e-4)


def test_one_photograph_is_a_path_an_image_or_an_array(classifier, manual_dir) -> None:
    path = manual_dir / "test/0.jpg"
    by_path = classifier.predict(path)
    assert str(by_path).startswith(f"{path}: Type_1 ")
    assert classifier.predict(str(path)) == by_path
    pixels = read_photograph(path)
    for source in (pixels, np.asarray(pixels)):
        prediction = classifier.predict(source)
        assert prediction.name == "photograph 0"
        assert list(prediction.probabilities.values()) == pytest.approx(list(by_path.probabilities.values()), abs=0.02)
    two = classifier.predict(np.stack([np.asarray(pixels)] * 2))
    assert [prediction.name for prediction in two] == ["photograph 0", "photograph 1"]
    assert classifier.predict([]) == []


def test_an_explanation_is_an_image_of_the_photograph_s_size(classifier, manual_dir) -> None:
    path = manual_dir / "test/0.jpg"
    evidence = classifier.explain(path, "saliency", type_name="Type_2")
    assert isinstance(evidence, Image.Image)
    with Image.open(path) as photograph:
        assert evidence.size == photograph.size
    with pytest.raises(MethodError, match="no method 'lime'"):
        classifier.explain(path, "lime")
    with pytest.raises(MethodError, match="no type 'Type_9'"):
        classifier.explain(path, "saliency", type_name="Type_9")
    with pytest.raises(MethodError, match="no target 'types'"):
        classifier.explain(path, "saliency", target="types")


def test_grey_arrays_are_photographs_and_other_arrays_are_refused_by_number(classifier) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    assert classifier.predict(grey) == classifier.predict(Image.fromarray(grey))
    for wrong in (grey[..., None], grey / 255, grey[0], np.stack([grey] * 4, axis=-1)):
        with pytest.raises(UnreadableError, match=r"photograph 1: a \w+ array of shape"):
            classifier.predict([grey, wrong])


def test_options_are_those_of_the_programs(run) -> None:
    workdir = run[0]
    with pytest.raises(CalibrationError, match=r"cervix_jax\.calibrate"):
        cervix_jax.load(workdir, coverage=0.9)
    labels = np.arange(60) % 3
    calibration = Calibration(2.0, 0.1 + 0.7 * np.eye(3)[labels], labels, {})
    flipped = Predictor.restore([workdir], augmentations=("flips",))
    calibration.save(flipped.calibration_path, flipped.identity)
    classifier = cervix_jax.load([workdir], tta=("flips",), coverage=0.9, unsafe_rate=0.1)
    assert classifier.predictor.temperature == 2.0
    assert classifier.rule.coverage == 0.9
    assert repr(classifier) == "<cervix_jax.Classifier run: Type_1, Type_2, Type_3; temperature 2>"
    assert cervix_jax.load(workdir, tta=("flips",), calibrated=False).predictor.temperature == 1.0
    with pytest.raises(DecisionRuleError, match="above 0 and below 1"):
        cervix_jax.load(workdir, tta=("flips",), coverage=2.0)


def test_a_file_that_cannot_be_read_is_named(classifier, tmp_path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UnreadableError, match=r"empty.jpg: empty file"):
        classifier.predict(tmp_path / "empty.jpg")
