"""Metrics against scikit-learn and closed forms, over many drawn predictions."""

import json

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from cervix_jax.training.metrics import classification_metrics, expected_calibration_error, reliability

NAMES = ("a", "b", "c")


@st.composite
def predictions(draw):
    n = draw(st.integers(1, 40))
    logits = draw(hnp.arrays(np.float32, (n, 3), elements=st.floats(-17, 17, width=32)))  # above 1e-15
    return softmax(logits.astype(np.float64), axis=1), draw(hnp.arrays(np.int64, n, elements=st.integers(0, 2)))


@given(predictions())
def test_against_scikit_learn(prediction) -> None:
    probabilities, labels = prediction
    metrics = classification_metrics(probabilities, labels, NAMES)
    predicted = probabilities.argmax(axis=1)
    assert metrics["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities, labels=[0, 1, 2]))
    assert metrics["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    assert metrics["confusion_matrix"] == expected.tolist()
    table = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=[0, 1, 2], zero_division=np.nan)
    for name, precision, recall, support in zip(NAMES, table[0], table[1], table[3], strict=True):
        of_class = metrics["per_class"][name]
        assert of_class["support"] == support
        for ours, theirs in ((of_class["precision"], precision), (of_class["recall"], recall)):
            assert (ours is None and np.isnan(theirs)) or ours == pytest.approx(theirs)
    one_hot = np.eye(3)[labels]
    brier = sum(np.mean((probabilities[:, k] - one_hot[:, k]) ** 2) for k in range(3))
    assert metrics["brier"] == pytest.approx(brier)
    json.dumps(metrics, allow_nan=False)


@given(predictions(), st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(prediction, random) -> None:
    probabilities, labels = prediction
    order = list(range(len(labels)))
    random.shuffle(order)
    ours = classification_metrics(probabilities, labels, NAMES)
    shuffled = classification_metrics(probabilities[order], labels[order], NAMES)
    assert ours["confusion_matrix"] == shuffled["confusion_matrix"]
    for name in ("loss", "accuracy", "ece", "brier"):
        assert ours[name] == pytest.approx(shuffled[name], abs=1e-12)


def test_calibration_error_in_closed_form() -> None:
    # Ten examples at confidence 0.9 of which seven are right, and ten at 0.5 of which five are.
    probabilities = np.array([[0.9, 0.1, 0.0]] * 10 + [[0.5, 0.3, 0.2]] * 10)
    labels = np.array([0] * 7 + [1] * 3 + [0] * 5 + [1] * 5)
    assert expected_calibration_error(probabilities, labels) == pytest.approx((10 * 0.2 + 10 * 0.0) / 20)


def test_calibration_error_is_that_of_fifteen_bins_which_are_open_below() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(20, 0.5), 300)  # the lowest bins as well
    probabilities[:4] = np.array([[1 / 15 + 1e-9] * 15 + [0] * 5, [0.05] * 20, [1 / 3] * 3 + [0] * 17, [1] + [0] * 19])
    labels = (probabilities.cumsum(axis=1) < rng.uniform(size=(300, 1))).sum(axis=1)  # calibrated: gaps of both signs
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = [(confidence > i / 15) & (confidence <= (i + 1) / 15) for i in range(15)]
    assert np.sum(bins) == 300
    expected = sum(abs(correct[rows].sum() - confidence[rows].sum()) for rows in bins) / 300
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


def test_a_probability_that_rounding_has_put_above_one_is_in_the_last_bin() -> None:
    (row,) = reliability(np.array([[1 + 1e-12, 0.0], [0.99, 0.01]]), np.array([0, 1]))
    assert row == {"count": 2, "confidence": pytest.approx(0.995), "accuracy": 0.5}


def test_a_certain_mistake_costs_what_kaggle_charges() -> None:
    metrics = classification_metrics(np.array([[1.0, 0.0, 0.0]]), np.array([2]), NAMES)
    assert metrics["loss"] == pytest.approx(-np.log(1e-15))


@pytest.mark.parametrize(("labels", "message"), [([], "no examples"), ([0, -1], "this split has none")])
def test_examples_without_labels_are_refused(labels, message) -> None:
    probabilities = np.full((len(labels), 3), 1 / 3)
    with pytest.raises(ValueError, match=message):
        classification_metrics(probabilities, np.array(labels, int), NAMES)
