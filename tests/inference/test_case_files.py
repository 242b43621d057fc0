"""Cases in a table: combined by the chosen rule, with sets that hold for cases, and none where nothing can say."""

import csv

import numpy as np

from cervix_jax.inference.case_files import write_cases
from cervix_jax.inference.case_predictions import combine
from cervix_jax.inference.decisions import DecisionRule, Prediction
from cervix_jax.inference.site_calibration import calibrate_site
from cervix_jax.labels import CLASS_NAMES
from tests.inference.site_photographs import site_predictions
from tests.inference.stub_predictor import StubPredictor


def predictions(p, groups):
    """By case, as `decisions.predict` makes them; the first photograph of each case is to be taken again."""
    of_cases = {}
    for row, group in zip(p, groups.tolist(), strict=True):
        retake = "blurred" if group not in of_cases else ""
        said = Prediction("", dict(zip(CLASS_NAMES, row.tolist(), strict=True)), "Type_1", (), "", retake, 0.5)
        of_cases.setdefault(group, []).append(said)
    return {f"woman {group}": photographs for group, photographs in of_cases.items()}


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_cases_have_sets_that_hold_for_cases(tmp_path) -> None:
    held, size = [], []
    for seed in range(6):
        p, labels, ids, groups = site_predictions(60, seed=seed)
        made = calibrate_site(p, labels, ids, groups)
        stub = StubPredictor(lambda image: image)
        object.__setattr__(stub, "calibration", made)
        fresh, truth, _, fresh_groups = site_predictions(200, seed=50 + seed)
        after = made.apply(fresh)
        rule = DecisionRule.fit(made, coverage=0.9)
        result = write_cases(tmp_path / "x.cases.csv", stub, predictions(after, fresh_groups), rule)
        assert result["count"] == 200
        assert (result["rule"], result["chosen_on"]) == (made.measured["cases"]["rule"], 60)
        assert result["has_sets"]
        rows = read(tmp_path / "x.cases.csv")
        expected = combine(after, fresh_groups, result["rule"])
        found = np.array([[float(row[name]) for name in CLASS_NAMES] for row in rows])
        np.testing.assert_allclose(found, expected, atol=1e-7)
        assert {(row["photographs"], row["retake"]) for row in rows} == {("3", "1")}
        held += [CLASS_NAMES[truth[3 * i]] in row["set"].split() for i, row in enumerate(rows)]
        size += [len(row["set"].split()) for row in rows]
        for row in rows:
            assert row["decision"] == (row["type"] if row["set"] == row["type"] else "refer")
    assert 0.86 < np.mean(held) < 0.97
    assert np.mean(size) < 2.9


def test_without_a_reference_of_cases_there_is_the_mean_and_no_set(tmp_path) -> None:
    p, _, _, groups = site_predictions(4)
    stub = StubPredictor(lambda image: image)
    result = write_cases(tmp_path / "x.cases.csv", stub, predictions(p, groups), DecisionRule())
    assert (result["rule"], result["chosen_on"], result["has_sets"]) == ("mean", 0, False)
    rows = read(tmp_path / "x.cases.csv")
    expected = combine(p, groups, "mean")
    assert [row["set"] for row in rows] == [CLASS_NAMES[i] for i in expected.argmax(axis=1)]


def test_what_was_asked_for_and_cannot_be_promised_is_referred(tmp_path, capsys) -> None:
    p, labels, ids, groups = site_predictions(8)
    stub = StubPredictor(lambda image: image)
    made = calibrate_site(p, labels, ids, groups)
    object.__setattr__(stub, "calibration", made)
    rule = DecisionRule.fit(made, unsafe_rate=0.05)
    result = write_cases(tmp_path / "x.cases.csv", stub, predictions(p, groups), rule)
    assert not result["has_sets"]
    rows = read(tmp_path / "x.cases.csv")
    assert {(row["type"], row["set"], row["decision"]) for row in rows} == {("", "", "refer")}
    assert f"the calibration has {result['chosen_on']} cases" in capsys.readouterr().err


def test_no_case_that_can_be_read_is_a_table_without_rows(tmp_path) -> None:
    result = write_cases(tmp_path / "x.cases.csv", StubPredictor(lambda image: image), {}, None)
    assert (result["count"], read(tmp_path / "x.cases.csv")) == (0, [])
