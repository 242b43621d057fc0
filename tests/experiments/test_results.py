"""Rows of tables from runs whose numbers are known."""

import numpy as np
import pytest

from cervix_jax.experiments.report_tables import Published, Row
from cervix_jax.experiments.results import ensemble_outcome, interval, single_outcome, table_rows
from cervix_jax.experiments.runner import Run
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import classification_metrics
from tests.experiments.fake_runs import LABELS, make_table, random_probabilities, write_run


def test_means_and_deviations_over_seeds(tmp_path) -> None:
    members = [random_probabilities(seed) for seed in range(3)]
    runs = [write_run(tmp_path, "report", seed, p) for seed, p in enumerate(members)]
    (row,) = table_rows(make_table(Row("one", ("report",), Published(0.7, 0.6))), runs, tmp_path)
    scores = [classification_metrics(p, LABELS, CLASS_NAMES) for p in members]
    measured = row["measured"]
    for key in ("loss", "accuracy"):
        assert measured[key] == pytest.approx(np.mean([s[key] for s in scores]))
        assert measured[f"{key}_sd"] == pytest.approx(np.std([s[key] for s in scores], ddof=1))
    assert measured["seeds"] == 3
    np.testing.assert_array_equal(measured["confusion_matrix"], sum(np.array(s["confusion_matrix"]) for s in scores))
    assert row["published"]["accuracy"] == 0.6
    assert row["reason"] is None


def test_the_interval_is_wilson_s() -> None:
    n, p, z = 296, 207 / 296, 1.959963984540054
    middle, reach = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n**2)
    expected = [(middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)]
    assert interval(p, n) == pytest.approx(expected)
    assert expected[1] - expected[0] == pytest.approx(0.104, abs=2e-3)  # about 5 points either way


@pytest.mark.parametrize("ema", [False, True])
def test_the_best_epoch_counts_or_the_last(tmp_path, ema: bool) -> None:
    run = write_run(tmp_path, "report", 0, random_probabilities(0), losses=[1.0, 0.8, 7.0], ema=ema)
    best = single_outcome(tmp_path / run.folder)
    assert (best.loss, best.epoch, best.epochs, best.train_accuracy) == (0.8, 2, 3, 0.2)
    last = single_outcome(tmp_path / run.folder, "last")
    assert (last.loss, last.epoch, last.accuracy, last.train_accuracy) == (7.0, 3, 0.1, 0.3)
    assert last.confusion_matrix is None  # the predictions are the best epoch's


def test_ensembles_combine_by_their_rule(tmp_path) -> None:
    names = ("specialist_1", "specialist_2", "specialist_3")
    members = np.stack([random_probabilities(seed) for seed in range(3)])
    losses = [0.9, 0.6, 2.0]
    runs = [write_run(tmp_path, n, 0, p, losses=[loss]) for n, p, loss in zip(names, members, losses, strict=True)]
    table = make_table(*(Row(rule, names, rule=rule) for rule in ("report", "mean", "geometric")))
    weights = np.array([0.05, 0.35, 0.0]) / 0.4  # 0.95 - loss, never negative
    powers = np.exp(np.log(members).mean(axis=0))
    expected = [
        (weights[:, None, None] * members).sum(axis=0),
        members.mean(axis=0),
        powers / powers.sum(axis=1, keepdims=True),
    ]
    for row, probabilities in zip(table_rows(table, runs, tmp_path), expected, strict=True):
        scores = classification_metrics(probabilities, LABELS, CLASS_NAMES)
        assert row["measured"]["loss"] == pytest.approx(scores["loss"])
        assert row["measured"]["confusion_matrix"] == scores["confusion_matrix"]


def test_runs_with_other_validation_photographs_are_no_ensemble(tmp_path) -> None:
    runs = [
        write_run(tmp_path, "specialist_1", 0, random_probabilities(0)),
        write_run(tmp_path, "specialist_2", 0, random_probabilities(1)[:4], labels=LABELS[:4]),
    ]
    with pytest.raises(ValueError, match="different validation photographs"):
        ensemble_outcome([tmp_path / run.folder for run in runs], "mean")


def test_one_vs_rest_becomes_three_types(tmp_path) -> None:
    names = [f"one_vs_rest_{i}" for i in (1, 2, 3)]
    members = np.stack([random_probabilities(seed, num_classes=2) for seed in range(3)])
    runs = [
        write_run(tmp_path, name, 0, p, labels=(i == LABELS).astype(int), class_names=("rest", CLASS_NAMES[i]))
        for i, (name, p) in enumerate(zip(names, members, strict=True))
    ]
    table = make_table(*(Row(name, (name,)) for name in names), Row("all", tuple(names), rule="one_vs_rest"))
    rows = table_rows(table, runs, tmp_path)
    positive = members[:, :, 1].T
    scores = classification_metrics(positive / positive.sum(axis=1, keepdims=True), LABELS, CLASS_NAMES)
    assert rows[-1]["measured"]["loss"] == pytest.approx(scores["loss"])
    assert rows[-1]["measured"]["confusion_matrix"] == scores["confusion_matrix"]
    assert [row["measured"]["num_classes"] for row in rows] == [2, 2, 2, 3]
    # To tell one type from the rest is easier, so it is not compared with telling three.
    assert all(row["within_best"]["measured"] is None for row in rows)


def test_missing_and_failed_runs_leave_the_other_rows_alone(tmp_path) -> None:
    runs = [
        write_run(tmp_path, "report", 0, random_probabilities(0)),
        Run("initial", 0, "runs/initial-0", reason="no weights"),
        Run("crop_85", 0, "runs/crop_85-0"),
    ]
    rows = [Row(name, (name,), Published(0.7, 0.6)) for name in ("report", "initial", "crop_85")]
    table = make_table(*rows, Row("both", ("report", "initial"), rule="mean"))
    found = table_rows(table, runs, tmp_path)
    assert [row["measured"] is None for row in found] == [False, True, True, True]
    assert [row["reason"] for row in found] == [None, "no weights", None, "no weights"]


def test_accuracies_inside_the_best_one_s_interval(tmp_path) -> None:
    right = np.eye(3)[LABELS] * 0.8 + 0.2 / 3
    one_wrong, all_wrong = right.copy(), np.roll(right, 1, axis=1)
    one_wrong[0] = all_wrong[0]
    members = {"report": right, "initial": one_wrong, "crop_85": all_wrong}
    runs = [write_run(tmp_path, name, 0, probabilities) for name, probabilities in members.items()]
    published = dict(zip(members, (0.70, 0.66, 0.60), strict=True))
    table = make_table(*(Row(name, (name,), Published(0.7, published[name])) for name in members))
    assert [row["within_best"] for row in table_rows(table, runs, tmp_path)] == [
        {"published": True, "measured": True},
        {"published": True, "measured": True},
        {"published": False, "measured": False},
    ]
