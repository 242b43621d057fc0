"""Predictors measured on splits and folders: what is reported, on which photographs, and how far these are away."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.images import synthetic
from cervix_jax.inference import clinical_metrics, conformal
from cervix_jax.inference.calibration import Calibration, calibrate, halves
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.evaluation import UnlabelledError, cross_fitted_types, evaluate, operating_point, shift
from cervix_jax.inference.labelled import folder_photographs, split_photographs
from cervix_jax.labels import CLASS_NAMES


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch):
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 50)  # their number is `test_clinical_metrics`' business


@pytest.fixture(scope="module")
def elsewhere(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    synthetic.write_folder(folder, seed=9, counts={"train": 20, "additional": 0, "test": 0})
    (folder / "train/Type_1/empty.jpg").write_bytes(b"")
    return folder_photographs(predictor, folder / "train")


def test_a_labelled_folder_is_measured_with_its_shift(predictor, elsewhere):
    results, probabilities, *_ = evaluate(predictor, elsewhere)
    assert results["num_examples"] == len(probabilities) == 20
    assert results["seen"] == []
    assert results["skipped"] == [{"image_name": "Type_1/empty.jpg", "reason": "empty file"}]
    assert 0 <= results["shift"]["scores"]["log_density"]["auroc"] <= 1
    assert "calibrated" not in results


def test_a_split_has_neither_shift_nor_seen_photographs_and_needs_labels(predictor, metrics):
    assert not {"seen", "shift"} & set(metrics)
    with pytest.raises(UnlabelledError, match="without labels"):
        evaluate(predictor, split_photographs(predictor, load_dataset, "test"))


def test_a_calibration_changes_only_its_own_entries(predictor, elsewhere):
    plain, probabilities, *nothing = evaluate(predictor, elsewhere)
    assert nothing == [None, None]
    calibration = Calibration(2.0, *planted(30, wrong=6), {"sets": {}})
    results, same, after, sets = evaluate(
        dataclasses.replace(predictor, calibration=calibration), elsewhere, unsafe_rate=0.1
    )
    np.testing.assert_array_equal(same, probabilities)
    np.testing.assert_allclose(after, calibration.apply(probabilities))
    np.testing.assert_array_equal(sets, DecisionRule.fit(calibration, 0.9).apply(after)[1])
    assert sum(row["count"] for row in results["calibrated"]["reliability"]) == 20
    assert results["calibrated"]["temperature"] == 2.0
    assert results["calibrated"]["before"]["loss"] == plain["loss"]
    assert set(results["calibrated"]["sets"]) == {"0.8", "0.9", "0.95"}
    assert results["operating_point"]["num_examples"] == 20
    assert {key: results[key] for key in plain} == plain


def test_shift_is_none_for_the_same_and_plain_for_other_pictures(predictor, elsewhere):
    same = shift(predictor.quality_reference, elsewhere.photographs)["scores"]
    flat = io.BytesIO()
    Image.new("RGB", (240, 320), "pink").save(flat, "JPEG")
    other = shift(predictor.quality_reference, [predictor.read(flat.getvalue(), with_features=True)] * 3)
    assert 0.25 < same["sharpness"]["auroc"] < 0.75
    assert other["scores"]["sharpness"]["auroc"] == 1
    assert other["scores"]["sharpness"]["median"] == 0


def test_robustness_is_part_of_an_evaluation_that_asks_for_it(predictor, elsewhere):
    few = dataclasses.replace(
        elsewhere, photographs=elsewhere.photographs[:2], labels=elsewhere.labels[:2], groups=np.arange(2)
    )
    assert 0 <= evaluate(predictor, few, robust=True).metrics["robustness"]["agreement"] <= 1


def planted(count: int, wrong: int):
    """Probabilities and labels of photographs of which the last `wrong` are taken for another type."""
    labels = np.arange(count) % 3
    called = labels.copy()
    called[count - wrong :] = np.where(labels[count - wrong :] == 0, 1, 0)
    return 0.05 + 0.85 * np.eye(3)[called], labels


def test_what_was_fitted_is_measured_on_the_other_half(predictor, validation, monkeypatch) -> None:
    """With probabilities by which each half has errors of its own, each number says which half it comes from."""
    fitting, reference = halves(validation.ids, validation.labels, validation.groups)
    right, wrong = np.eye(3)[validation.labels], np.eye(3)[(validation.labels + 1) % 3]
    planted_probabilities = 0.05 + 0.85 * np.where(fitting[:, None], right, wrong)
    monkeypatch.setattr(type(validation), "probabilities", lambda *_: planted_probabilities)
    after = planted_probabilities[reference]
    calibration = Calibration(2.0, after, validation.labels[reference], {"sets": {"0.9": "of the reference"}})
    calibrated = dataclasses.replace(predictor, calibration=calibration)
    results = evaluate(calibrated, validation, unsafe_rate=0.5).metrics
    assert results["calibrated"]["num_examples"] == reference.sum()
    assert results["calibrated"]["before"]["loss"] == pytest.approx(-np.log(0.05))
    assert results["calibrated"]["sets"] == calibration.measured["sets"]
    assert results["operating_point"]["num_examples"] == fitting.sum()


def test_errors_at_an_operating_point_are_those_of_the_types_that_were_called() -> None:
    probabilities, labels = planted(60, wrong=15)
    types = np.where(np.arange(60) < 20, 0, labels)
    errors = operating_point(probabilities, labels, CLASS_NAMES, types)
    unsafe = ((types == 0) & (labels != 0)).sum() / (labels != 0).sum()
    assert errors["unsafe_rate"] == pytest.approx(unsafe)
    assert errors["accuracy"] == pytest.approx((types == labels).mean())


def test_a_cross_validation_calls_each_photograph_by_thresholds_of_other_folds() -> None:
    rng = np.random.default_rng(0)
    labels, folds = np.arange(90) % 3, np.arange(90) // 30
    probabilities = rng.dirichlet(np.ones(3), 90)
    calibration = Calibration(1.0, probabilities, labels, {})
    types = cross_fitted_types(calibration, folds, 0.1)
    for fold in range(3):
        rows = folds == fold
        threshold = conformal.ablation_threshold(probabilities[~rows], labels[~rows], 0.1)
        np.testing.assert_array_equal(types[rows], conformal.decide(probabilities[rows], threshold))


def test_a_cross_validation_is_evaluated_on_all_its_photographs(cross_validated, held_out):
    probabilities = held_out.probabilities(cross_validated)
    calibration = calibrate(probabilities, held_out.labels, held_out.ids, held_out.groups, held_out.folds)
    calibrated = dataclasses.replace(cross_validated, calibration=calibration)
    results, found, after, sets = evaluate(calibrated, held_out, unsafe_rate=0.2)
    np.testing.assert_array_equal(found, probabilities)
    assert results["num_examples"] == results["calibrated"]["num_examples"] == 60
    assert results["operating_point"]["num_examples"] == 60
    threshold = conformal.set_threshold(after, held_out.labels, 0.9)
    np.testing.assert_array_equal(sets, conformal.prediction_sets(after, threshold))
    assert results["calibrated"]["after"]["loss"] == pytest.approx(calibration.measured["after"]["loss"])
