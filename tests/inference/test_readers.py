"""Readers: kappas against published and scikit-learn's numbers."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cervix_jax.inference.readers import cohen_kappa, describe_readers, fleiss_kappa
from cervix_jax.labels import CLASS_NAMES

NAMES = ["Type_1/a.jpg", "Type_1/b.jpg", "Type_2/c.jpg", "Type_3/d.jpg"]
# Ten subjects, 14 raters, five categories: kappa 0.210 (the worked example of Fleiss' kappa on Wikipedia).
EXAMPLE = """0 0 0 0 14,0 2 6 4 2,0 0 3 5 6,0 3 9 2 0,2 2 8 1 1,7 7 0 0 0,3 2 6 3 0,2 5 3 2 2,6 5 2 1 0,0 2 2 3 7"""


def test_kappas_are_those_of_others() -> None:
    counts = np.array([[int(x) for x in row.split()] for row in EXAMPLE.split(",")])
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 50)
    second = np.where(rng.uniform(size=50) < 0.7, first, rng.integers(0, 3, 50))
    assert cohen_kappa(first, second, 3) == pytest.approx(cohen_kappa_score(first, second))
    assert np.isnan(cohen_kappa(np.zeros(3, int), np.zeros(3, int), 3))
    assert np.isnan(fleiss_kappa(np.zeros((0, 3), int)))


def test_readers_and_predictions_are_compared_on_what_they_have_in_common() -> None:
    readings = {
        "Ann": {NAMES[0]: 0, NAMES[1]: 0, NAMES[2]: 1, NAMES[3]: 2},
        "Bo": {NAMES[0]: 0, NAMES[1]: 1, NAMES[2]: 1},
        "Cy": {NAMES[0]: 0, NAMES[1]: 1, NAMES[2]: 2, NAMES[3]: 1},
    }
    p = 0.1 + 0.7 * np.eye(3)[[0, 0, 1, 2]]  # as Ann says
    found = describe_readers(readings, p, NAMES, CLASS_NAMES)
    assert found["predictions"]["Ann"]["kappa"] == 1
    assert found["predictions"]["Bo"] == {
        "photographs": 3,
        "accuracy": pytest.approx(2 / 3),
        "kappa": pytest.approx(cohen_kappa_score([0, 1, 1], [0, 0, 1])),
        "loss": pytest.approx(-(2 * np.log(0.8) + np.log(0.1)) / 3),
    }
    assert found["predictions"]["majority"]["photographs"] == 3  # of the fourth two readers disagree
    assert found["predictions"]["majority"]["accuracy"] == pytest.approx(2 / 3)
    assert found["pairs"]["Ann, Bo"]["photographs"] == 3
    assert found["pairs"]["Bo, Cy"]["kappa"] == pytest.approx(cohen_kappa_score([0, 1, 1], [0, 1, 2]))
    assert found["photographs"] == 3
    assert found["fleiss_kappa"] == pytest.approx(fleiss_kappa(np.array([[3, 0, 0], [1, 2, 0], [0, 2, 1]])))
