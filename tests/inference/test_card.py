"""The model card says what is so, and nothing else."""

import dataclasses
import json

import pytest

from cervix_jax import runs
from cervix_jax.inference import card, clinical_metrics
from cervix_jax.inference.evaluation import evaluate


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


def test_a_card_says_only_what_is_so(predictor, metrics) -> None:
    (member,) = predictor.members
    config = member.config.copy_and_resolve_references()
    config.dataset.crop = 0.9
    entries = describe(dataclasses.replace(predictor, members=(dataclasses.replace(member, config=config),)), metrics)
    page = card.render(entries)
    assert "Temperature" not in page
    assert entries["metrics"]["calibrated"] is None
    assert "def read" not in page  # which would not crop
