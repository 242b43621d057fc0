"""From probabilities to decisions: rules, and what is predicted of a photograph."""

import numpy as np
import pytest
from scipy.special import softmax

from cervix_jax.inference import conformal
from cervix_jax.inference.calibration import Calibration, CalibrationError
from cervix_jax.inference.decisions import NOT_ASSESSED, DecisionRule, DecisionRuleError, predict
from cervix_jax.inference.photograph import Photograph
from tests.inference.stub_predictor import StubPredictor


def drawn(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 1.5, (count, 3)), axis=1)
    return p, (p.cumsum(axis=1) < rng.uniform(size=(count, 1))).sum(axis=1)


def test_rules_need_a_reference_and_sensible_numbers() -> None:
    p, labels = drawn(100)
    calibration = Calibration(1.0, p, labels, {})
    with pytest.raises(CalibrationError, match=r"python -m cervix_jax.calibrate"):
        DecisionRule.fit(None, 0.9, None)
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(DecisionRuleError, match="above 0 and below 1"):
            DecisionRule.fit(calibration, wrong, None)
        with pytest.raises(DecisionRuleError, match="--unsafe_rate"):
            DecisionRule.fit(calibration, None, wrong)
    with pytest.raises(DecisionRuleError, match="three types"):
        DecisionRule.fit(Calibration(1.0, p[:, :2], labels % 2, {}), None, 0.1)
    types, sets = DecisionRule.fit(None, None, None).apply(p)
    np.testing.assert_array_equal(sets.argmax(axis=1), types)
    assert (sets.sum(axis=1) == 1).all()
    types, sets = DecisionRule.fit(calibration, 0.9, 0.05).apply(p)
    assert sets.sum(axis=1).max() > 1
    assert np.mean(types[labels != 0] == 0) <= 0.05


def test_a_prediction_is_referred_unless_its_set_is_the_type_that_is_called() -> None:
    answers = iter([np.array([0.7, 0.2, 0.1]), np.array([0.45, 0.4, 0.15]), np.array([0.2, 0.7, 0.1])])
    photographs = [Photograph((np.zeros((4, 4, 3), np.uint8),), b"", (4, 4), (None,)) for _ in range(3)]
    rule = DecisionRule(coverage=0.9, set_threshold=0.3, ablation_threshold=0.5)
    sure, unsure, second = predict(StubPredictor(lambda image: next(answers)), rule, ["a", "b", "c"], photographs, 2)
    assert (sure.type, sure.set, sure.decision) == ("Type_1", ("Type_1",), "Type_1")
    assert (unsure.type, unsure.set, unsure.decision) == ("Type_2", ("Type_1", "Type_2"), "refer")
    assert (second.decision, second.retake, second.quality) == ("Type_2", NOT_ASSESSED, None)
    assert sure.probabilities == pytest.approx({"Type_1": 0.7, "Type_2": 0.2, "Type_3": 0.1})
    assert str(unsure) == "b: Type_1 45.0%, Type_2 40.0%, Type_3 15.0% -> refer (set: Type_1, Type_2)"
    assert rule.describe() == {"coverage": 0.9, "threshold": 0.5, "expected": None}
    never = DecisionRule(ablation_threshold=float("inf"))
    assert never.describe() == {"coverage": None, "threshold": 1.0, "expected": None}


def test_a_threshold_comes_with_what_it_does_to_the_reference() -> None:
    p, labels = drawn(200)
    described = DecisionRule.fit(Calibration(1.0, p, labels, {}), None, 0.05).describe()
    called = p[:, 0] > described["threshold"]
    assert described["expected"]["unsafe_rate"] == called[labels != 0].mean() <= 0.05
    assert described["expected"]["sensitivity/Type_1"] == called[labels == 0].mean()
    others = np.where(p[:, 1] > p[:, 2], 1, 2)
    assert described["expected"]["accuracy"] == np.mean(np.where(called, 0, others) == labels)


def test_of_a_cross_validation_sets_come_from_its_folds() -> None:
    p, labels = drawn(100)
    folds = np.arange(100) % 4
    calibration = Calibration(1.0, p, labels, {}, folds, (1.0,) * 4)
    rule = DecisionRule.fit(calibration, 0.8)
    by_fold = np.stack([drawn(30, seed)[0] for seed in range(4)])
    types, sets = rule.apply(by_fold.mean(axis=0), by_fold)
    np.testing.assert_array_equal(sets, conformal.cv_plus_sets(by_fold, p, labels, folds, 0.8))
    np.testing.assert_array_equal(types, by_fold.mean(axis=0).argmax(axis=1))
