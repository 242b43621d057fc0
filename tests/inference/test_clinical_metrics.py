"""Metrics against scikit-learn's, and intervals against what is known of them."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from cervix_jax.inference import clinical_metrics
from cervix_jax.labels import CLASS_NAMES


def drawn(count: int = 200, seed: int = 0):
    rng = np.random.default_rng(seed)
    p = softmax(rng.normal(0, 1.2, (count, 3)), axis=1)
    return p, (p.cumsum(axis=1) < rng.uniform(size=(count, 1))).sum(axis=1)


def test_numbers_are_scikit_learn_s() -> None:
    p, labels = drawn()
    called = p.argmax(axis=1)
    found = clinical_metrics.scalar_metrics(p, labels, CLASS_NAMES, called)
    assert found["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(labels, called))
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, called))
    assert found["loss"] == pytest.approx(sklearn_metrics.log_loss(labels, p))
    assert found["auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, p, multi_class="ovr"))
    recalls = sklearn_metrics.recall_score(labels, called, average=None)
    assert [found[f"sensitivity/{name}"] for name in CLASS_NAMES] == pytest.approx(list(recalls))
    assert found["unsafe_rate"] == pytest.approx(np.mean(called[labels != 0] == 0))
    assert found["1_called_3"] == pytest.approx(np.mean(called[labels == 0] == 2))
    assert found["3_called_1"] == pytest.approx(np.mean(called[labels == 2] == 0))


def test_ties_count_half_and_one_kind_alone_defines_no_auroc() -> None:
    scores = np.array([0.1, 0.5, 0.5, 0.9])
    positive = np.array([False, True, False, True])
    assert clinical_metrics.auroc(scores, positive) == sklearn_metrics.roc_auc_score(positive, scores) == 0.875
    assert np.isnan(clinical_metrics.auroc(scores, np.ones(4, bool)))


def test_risk_grows_from_the_surest_to_the_share_of_errors() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.4, 0.35, 0.25], [0.35, 0.4, 0.25]])
    labels = np.array([0, 1, 2, 1, 2])
    curve = clinical_metrics.risk_coverage(p, labels)
    assert {row["coverage"]: row["risk"] for row in curve} == pytest.approx(
        {0.2: 0, 0.4: 0, 0.6: 0, 0.8: 1 / 4, 1.0: 2 / 5}
    )


def test_intervals_hold_the_number_and_are_as_wide_as_theory_says() -> None:
    p, labels = drawn(400)
    found = clinical_metrics.detailed_metrics(p, labels, CLASS_NAMES)
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high, name
    low, high = found["intervals"]["accuracy"]
    expected = 2 * 1.96 * np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 400)
    assert high - low == pytest.approx(expected, rel=0.1)
    losses = -np.log(p[np.arange(400), labels])
    low, high = found["intervals"]["loss"]
    assert high - low == pytest.approx(2 * 1.96 * losses.std() / 20, rel=0.1)
    assert sum(row["count"] for row in found["reliability"]) == 400


def test_never_in_some_is_not_never(monkeypatch) -> None:
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 50)  # the exact interval has none
    labels = np.array([0] * 10 + [1] * 20 + [2] * 10)
    found = clinical_metrics.detailed_metrics(np.eye(3)[labels], labels, CLASS_NAMES)
    assert found["unsafe_rate"] == 0
    low, high = found["intervals"]["unsafe_rate"]
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 30))  # Clopper and Pearson
    assert found["intervals"]["sensitivity/Type_1"] == pytest.approx([0.025 ** (1 / 10), 1])
    assert found["intervals"]["accuracy"] == pytest.approx([0.025 ** (1 / 40), 1])


def test_never_in_the_photographs_of_few_women_is_even_less_never(monkeypatch) -> None:
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 50)
    labels = np.repeat([0, 1, 2], 12)
    groups = np.arange(36) // 4  # three women of each type
    found = clinical_metrics.detailed_metrics(np.eye(3)[labels], labels, CLASS_NAMES, groups)
    assert found["intervals"]["unsafe_rate"] == pytest.approx([0, 1 - 0.025 ** (1 / 6)])
    assert found["intervals"]["accuracy"] == pytest.approx([0.025 ** (1 / 9), 1])


def test_the_interval_of_the_calibration_error_of_a_calibrated_network_holds_none(monkeypatch) -> None:
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 200)
    held = 0
    for seed in range(3):
        p, labels = drawn(296, seed)
        low, _ = clinical_metrics.detailed_metrics(p, labels, CLASS_NAMES)["intervals"]["ece"]
        held += low < 0.02
    assert held >= 2


def test_near_duplicates_are_drawn_together(monkeypatch) -> None:
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 400)
    p, labels = drawn(100)
    alone = clinical_metrics.detailed_metrics(p, labels, CLASS_NAMES)["intervals"]["loss"]
    four = [np.repeat(x, 4, axis=0) for x in (p, labels)]
    together = clinical_metrics.detailed_metrics(*four, CLASS_NAMES, np.repeat(np.arange(100), 4))["intervals"]["loss"]
    as_if_apart = clinical_metrics.detailed_metrics(*four, CLASS_NAMES)["intervals"]["loss"]
    assert together == pytest.approx(alone, rel=1e-9)
    assert np.ptp(as_if_apart) == pytest.approx(np.ptp(alone) / 2, rel=0.15)


def test_what_photographs_do_not_define_is_none() -> None:
    p, _ = drawn(20)
    found = clinical_metrics.detailed_metrics(p, np.ones(20, int), CLASS_NAMES)
    assert found["auroc"] is None
    assert found["sensitivity/Type_1"] is None
    assert found["intervals"]["auroc"] == [None, None]


def test_of_two_classes_nothing_is_said_of_types() -> None:
    p, labels = drawn(50)
    found = clinical_metrics.detailed_metrics(p[:, :2] / p[:, :2].sum(1, keepdims=True), labels % 2, ("rest", "Type_2"))
    assert "unsafe_rate" not in found
    assert found["auroc"] is not None
