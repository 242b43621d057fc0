"""Rows of tables and conclusions, from results whose numbers are known."""

import dataclasses

import numpy as np
import pytest

from cervix_jax.experiments.report_tables import Claim, Published, Row
from cervix_jax.experiments.results import conclusions, table_rows
from cervix_jax.inference.calibration import apply_temperature, fit_temperature
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import classification_metrics
from tests.experiments.fake_results import (
    FOLDS,
    LABELS,
    good_probabilities,
    make_experiment,
    make_result,
    make_table,
    random_probabilities,
)


def measured(rows, *results):
    return table_rows(make_experiment(*rows), {result.system: result for result in results})


def test_loss_and_accuracy_are_of_all_folds_and_means_over_seeds() -> None:
    members = [random_probabilities(seed) for seed in range(2)]
    result = make_result("report", *map(make_table, members))
    (row,) = measured([Row("one", ("report",), Published(0.7, 0.6))], result)
    scores = [classification_metrics(p, LABELS, CLASS_NAMES) for p in members]
    for key in ("loss", "accuracy"):
        assert row["measured"][key] == pytest.approx(np.mean([s[key] for s in scores]))
        low, high = row["measured"][f"{key}_interval"]
        assert low < row["measured"][key] < high
    assert (row["measured"]["seeds"], row["measured"]["folds"]) == (2, [0, 1, 2])
    matrices = sum(np.array(s["confusion_matrix"]) for s in scores)
    np.testing.assert_array_equal(row["measured"]["confusion_matrix"], matrices)
    assert row["measured"]["difference"] is None  # it is the base
    assert row["published"]["accuracy"] == 0.6


def test_differences_are_paired_with_the_base() -> None:
    """A system that is a little surer everywhere is better beyond doubt, though the intervals of both overlap."""
    mixed = random_probabilities(0)
    surer = 0.98 * mixed + 0.02 * np.eye(3)[LABELS]
    rows = [Row(name, (name,)) for name in ("base", "surer", "other", "same")]
    results = [make_result(n, make_table(p)) for n, p in (("base", mixed), ("surer", surer), ("same", mixed))]
    results.append(make_result("other", make_table(random_probabilities(7))))
    base, better, other, same = (row["measured"] for row in measured(rows, *results))
    assert better["loss_interval"][1] > base["loss_interval"][0]
    assert better["difference"]["loss"]["verdict"] == "better"
    assert better["difference"]["loss"]["value"] == pytest.approx(better["loss"] - base["loss"])
    assert other["difference"]["loss"]["verdict"] == "cannot tell"
    assert same["difference"]["loss"] == {"value": 0, "interval": [0, 0], "verdict": "cannot tell"}


def test_differences_are_on_the_photographs_that_both_hold_out() -> None:
    whole = make_table(random_probabilities(0))
    part = make_table(random_probabilities(1)).take(whole.ids[:20])
    rows = [Row("base", ("base",)), Row("part", ("part",))]
    _, row = measured(rows, make_result("base", whole), make_result("part", part, losses=[1.0] * 3))
    assert row["measured"]["num_examples"] == row["measured"]["difference"]["num_examples"] == 20
    true = [np.log(t.probabilities[range(20), LABELS[:20]]) for t in (whole.take(part.ids), part)]
    assert row["measured"]["difference"]["loss"]["value"] == pytest.approx((true[0] - true[1]).mean())


def test_seeds_that_lack_a_fold_are_compared_on_what_all_have() -> None:
    first, second = (make_table(random_probabilities(seed)) for seed in range(2))
    part = second.take([name for name, fold in zip(second.ids, second.folds, strict=True) if fold < 2])
    base = make_result("base", make_table(random_probabilities(2)))
    rows = [Row("base", ("base",)), Row("seeds", ("seeds",)), Row("both", ("seeds", "base"), rule="mean")]
    losses = [1.0] * 3
    _, row, ensemble = measured(rows, base, make_result("seeds", first, part, losses=losses))
    assert row["measured"]["num_examples"] == row["measured"]["difference"]["num_examples"] == 40
    assert ensemble["measured"]["seeds"] == 1  # the base has one


def test_what_is_reported_at_the_last_epoch_has_no_interval() -> None:
    result = make_result("overfitted", make_table(random_probabilities(0)), losses=[3.0, 4.0, 5.0])
    (row,) = measured([Row("one", ("overfitted",))], result)
    assert row["measured"]["loss"] == pytest.approx(4.0)
    assert row["measured"]["loss_interval"] is None
    assert row["measured"]["confusion_matrix"] is None  # it would be of another epoch
    cropped = dataclasses.replace(result, system="overfitted+cervix")
    experiment = make_experiment(Row("one", ("overfitted",)))
    (row,) = table_rows(experiment, {cropped.system: cropped})
    assert row["on_cervix"]["loss"] == pytest.approx(4.0)
    assert row["measured"] is None


def test_systems_of_other_sizes_are_not_compared() -> None:
    first, other = (make_result(name, make_table(random_probabilities(0))) for name in ("initial", "crop_70"))
    rows = [Row(name, (name,)) for name in ("initial", "crop_70")]
    assert measured(rows, first, other)[1]["measured"]["difference"] is not None
    larger = dataclasses.replace(other, conditions=other.conditions | {"image_size": [320, 240]})
    assert measured(rows, first, larger)[1]["measured"]["difference"] is None


def test_a_system_on_the_cervix_is_compared_with_itself_on_whole_photographs() -> None:
    whole, cropped = random_probabilities(0), random_probabilities(1)
    results = [make_result("initial", make_table(whole)), make_result("initial+cervix", make_table(cropped))]
    (row,) = measured([Row("one", ("initial",))], *results)
    losses = [classification_metrics(p, LABELS, CLASS_NAMES)["loss"] for p in (whole, cropped)]
    assert row["on_cervix"]["loss"] == pytest.approx(losses[1])
    assert row["on_cervix"]["difference"]["loss"]["value"] == pytest.approx(losses[1] - losses[0])
    assert row["measured"]["difference"] is None  # it is the base


def test_ensembles_combine_by_their_rule_fold_by_fold() -> None:
    names = ("specialist_1", "specialist_2", "specialist_3")
    members = np.stack([random_probabilities(seed) for seed in range(3)])
    losses = np.array([[0.9, 0.6, 2.0], [0.5, 0.9, 0.7], [2.0, 2.0, 0.1]])  # of each fold's three members
    results = [
        make_result(n, make_table(p), losses=losses[:, i]) for i, (n, p) in enumerate(zip(names, members, strict=False))
    ]
    rows = measured([Row(rule, names, rule=rule) for rule in ("report", "mean", "geometric")], *results)
    weights = np.maximum(0.95 - losses, 0)  # section 12
    weights /= weights.sum(axis=1, keepdims=True)
    powers = np.exp(np.log(members).mean(axis=0))
    expected = [
        np.einsum("nm,mnk->nk", weights[FOLDS], members),
        members.mean(axis=0),
        powers / powers.sum(axis=1, keepdims=True),
    ]
    for row, probabilities in zip(rows, expected, strict=True):
        scores = classification_metrics(probabilities, LABELS, CLASS_NAMES)
        assert row["measured"]["loss"] == pytest.approx(scores["loss"])
        assert row["measured"]["confusion_matrix"] == scores["confusion_matrix"]


def test_one_vs_rest_becomes_three_types_calibrated_by_the_other_folds() -> None:
    names = [f"one_vs_rest_{i}" for i in (1, 2, 3)]
    members = [random_probabilities(seed, num_classes=2) for seed in range(3)]
    tables = [make_table(p, (i == LABELS).astype(int), ("rest", CLASS_NAMES[i])) for i, p in enumerate(members)]
    results = [make_result(name, table) for name, table in zip(names, tables, strict=True)]
    rows = [Row(name, (name,)) for name in names]
    rows += [Row(rule, tuple(names), rule=rule) for rule in ("one_vs_rest", "one_vs_rest_calibrated")]
    found = table_rows(make_experiment(*rows, base="one_vs_rest"), {result.system: result for result in results})
    positive = np.stack(members)[:, :, 1].T
    scores = classification_metrics(positive / positive.sum(axis=1, keepdims=True), LABELS, CLASS_NAMES)
    assert found[3]["measured"]["loss"] == pytest.approx(scores["loss"])
    assert [row["measured"]["num_classes"] for row in found] == [2, 2, 2, 3, 3]
    # To tell one type from the rest is easier, so it is not compared with telling three.
    assert all(row["measured"]["difference"] is None for row in found[:3])
    calibrated = np.empty_like(positive)
    for i, table in enumerate(tables):
        for fold in range(3):
            rows_of = fold == FOLDS
            temperature = fit_temperature(table.probabilities[~rows_of], table.labels[~rows_of])
            calibrated[rows_of, i] = apply_temperature(table.probabilities[rows_of], temperature)[:, 1]
    scores = classification_metrics(calibrated / calibrated.sum(axis=1, keepdims=True), LABELS, CLASS_NAMES)
    assert found[4]["measured"]["loss"] == pytest.approx(scores["loss"])


def test_missing_and_failed_runs_leave_the_other_rows_alone() -> None:
    report = make_result("report", make_table(random_probabilities(0)))
    failed = dataclasses.replace(report, system="initial", tables={}, runs=(), reason="no weights")
    rows = [Row(name, (name,)) for name in ("report", "initial", "crop_85")]
    found = measured([*rows, Row("both", ("report", "initial"), rule="mean")], report, failed)
    assert [row["measured"] is None for row in found] == [False, True, True, True]
    assert [row["reason"] for row in found] == [None, "no weights", None, "no weights"]


def test_conclusions_are_decided_by_the_interval_of_the_difference() -> None:
    rows = [Row(name, (name,)) for name in ("sure", "unsure", "random", "alike")]
    claims = (
        Claim("sure beats unsure", "sure", "unsure"),
        Claim("unsure beats sure", "unsure", "sure"),
        Claim("random beats itself", "random", "random"),
        Claim("nobody ran", "sure", "missing"),
        Claim("alike", "alike", "sure", margin=0.05),
        Claim("not alike", "unsure", "sure", margin=0.05),
    )
    experiment = make_experiment(*rows, Row("missing", ("missing",)), claims=claims)
    systems = {"sure": 0.8, "unsure": 0.5, "alike": 0.79}
    results = {name: make_result(name, make_table(good_probabilities(s))) for name, s in systems.items()}
    results["random"] = make_result("random", make_table(random_probabilities(3)))
    verdicts = [c["verdict"] for c in conclusions(experiment, results)]
    assert verdicts == ["holds", "does not hold", "cannot be told", "not run", "holds", "does not hold"]
