"""The model card says what is so, and nothing else."""

import dataclasses
import json

import pytest

from cervix_jax import runs
from cervix_jax.inference import card, clinical_metrics
from cervix_jax.inference.evaluation import evaluate
from cervix_jax.inference.site_calibration import calibrate_site
from tests.inference.site_photographs import site_predictions


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch):
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 50)  # their number is `test_clinical_metrics`' business


def describe(predictor, metrics):
    return card.describe(predictor, runs.read_record(predictor.members[0].workdir), metrics, 1234)


def test_a_card_has_metrics_limits_and_what_is_not_intended(predictor, calibration, validation) -> None:
    predictor = dataclasses.replace(predictor, calibration=calibration)
    metrics = evaluate(predictor, validation).metrics
    entries = json.loads(json.dumps(describe(predictor, metrics)))
    assert entries["metrics"]["loss"] == {"value": metrics["loss"], "interval": metrics["intervals"]["loss"]}
    assert entries["metrics"]["calibrated"]["temperature"] == entries["temperature"] == calibration.temperature
    assert entries["classes"] == ["Type_1", "Type_2", "Type_3"]
    thresholds = list(entries["set_thresholds"].values())
    assert thresholds == sorted(thresholds, reverse=True)
    assert min(thresholds) >= 0
    page = card.render(entries)
    for words in ("Not for clinical decisions", "Limitations", f"{metrics['accuracy']:.3f}", "Temperature", "1,234"):
        assert words in page


def test_a_card_of_a_site_says_for_how_many_cases_and_how_well_there(predictor, validation) -> None:
    p, labels, ids, groups = site_predictions(30)
    made = calibrate_site(p, labels, ids, groups)
    said = {"loss": 0.7, "kappa": 0.4, "coverage": 0.912}
    measured = made.measured | {"photographs": 90, "groups": 30, "asked": {"coverage": 0.9}, "after": said}
    made = dataclasses.replace(made, measured=measured | {"decision": "recalibrate"})
    of_site = dataclasses.replace(predictor, calibration=made)
    metrics = evaluate(of_site, validation)[0]
    assert "calibrated" not in metrics  # by photographs of another camera
    page = card.render(json.loads(json.dumps(describe(of_site, metrics))))
    assert "for a site, by 90 photographs of 30 cases" in page
    assert "sets of 90% hold 91.2%; what was advised: recalibrate." in page
    assert "Temperature" not in page


def test_a_card_says_only_what_is_so(predictor, metrics) -> None:
    (member,) = predictor.members
    config = member.config.copy_and_resolve_references()
    config.dataset.crop = 0.9
    entries = describe(dataclasses.replace(predictor, members=(dataclasses.replace(member, config=config),)), metrics)
    page = card.render(entries)
    assert "Temperature" not in page
    assert entries["metrics"]["calibrated"] is None
    assert "def read" not in page  # which would not crop
