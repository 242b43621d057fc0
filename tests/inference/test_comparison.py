"""Paired differences: against SciPy's paired bootstrap, between known systems, and what cannot be compared."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from cervix_jax.inference import comparison
from cervix_jax.inference.comparison import compare
from cervix_jax.inference.prediction_table import PredictionTable, TableError
from cervix_jax.labels import CLASS_NAMES


def system(sharpness: float, count: int = 240, seed: int = 0) -> PredictionTable:
    """One that is right more often, and surer, the larger `sharpness`; photographs of one seed are equally hard."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    logits = sharpness * np.eye(3)[labels] + rng.normal(0, 1, (count, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = [f"{i}.jpg" for i in range(count)]
    return PredictionTable(ids, labels, np.arange(count), np.zeros(count, int), probabilities, CLASS_NAMES)


def losses(table: PredictionTable) -> np.ndarray:
    return -np.log(table.probabilities[np.arange(len(table.ids)), table.labels])


def test_the_interval_is_that_of_scipy_s_paired_bootstrap(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 400)
    first, second = system(1.0), system(1.2)
    found = compare(first, second)["metrics"]["loss"]
    difference = losses(second) - losses(first)
    assert found["difference"] == pytest.approx(difference.mean())
    oracle = stats.bootstrap((difference,), np.mean, n_resamples=4000, method="percentile", rng=1)
    np.testing.assert_allclose(
        found["interval"], oracle.confidence_interval, atol=0.1 * np.ptp(oracle.confidence_interval)
    )


def test_one_photograph_or_one_case_decides_nothing() -> None:
    first, second = system(1.0, count=6), system(3.0, count=6)
    one = compare(first.take(first.ids[:1]), second)
    of_one_woman = compare(dataclasses.replace(first, groups=np.zeros(6, int)), second)
    for found in (one, of_one_woman):
        assert found["conclusion"] == "no better"
        assert {row["verdict"] for row in found["metrics"].values()} == {"cannot tell"}


def test_groups_of_either_table_are_drawn_together(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 100)
    first, second = system(1.0, count=60), system(1.2, count=60)
    cases = dataclasses.replace(second, groups=np.arange(60) // 6)
    there = compare(first, cases)["metrics"]["loss"]["interval"]
    back = compare(cases, first)["metrics"]["loss"]["interval"]
    assert there == pytest.approx([-limit for limit in back[::-1]])
    assert there != compare(first, second)["metrics"]["loss"]["interval"]


def test_pairing_decides_what_two_intervals_cannot(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 200)
    found = compare(system(1.0), system(1.3))["metrics"]
    assert found["loss"]["verdict"] == "better"
    assert found["loss"]["interval"][1] < 0
    width = np.ptp(found["loss"]["interval"])
    apart = [np.std(losses(system(sharpness))) / np.sqrt(240) * 3.92 for sharpness in (1.0, 1.3)]
    assert width < 0.5 * min(apart)


def test_verdicts_are_turned_round_with_the_systems_and_follow_each_metric_s_direction(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 100)
    there, back = compare(system(0.5), system(2.5))["metrics"], compare(system(2.5), system(0.5))["metrics"]
    for name in ("loss", "accuracy", "kappa", "auroc", "unsafe_rate", "sensitivity/Type_1"):
        assert (there[name]["verdict"], back[name]["verdict"]) == ("better", "worse")
        assert there[name]["difference"] == pytest.approx(-back[name]["difference"])
    same = compare(system(1.0), system(1.0))["metrics"]
    assert all(row["verdict"] == "cannot tell" and row["difference"] == 0 for row in same.values())


def test_near_duplicates_count_as_one_photograph(monkeypatch) -> None:
    """Each photograph four times: the interval is that of the originals, not half as wide."""
    monkeypatch.setattr(comparison, "RESAMPLES", 100)
    first, second = system(1.0), system(1.1)

    def repeated(table):
        arrays = {
            name: np.repeat(getattr(table, name), 4, axis=0) for name in ("labels", "groups", "folds", "probabilities")
        }
        return dataclasses.replace(table, ids=[f"{name}-{i}" for name in table.ids for i in range(4)], **arrays)

    plain = compare(first, second)["metrics"]["loss"]
    grouped = compare(repeated(first), repeated(second))["metrics"]["loss"]
    np.testing.assert_allclose(grouped["interval"], plain["interval"], rtol=1e-6)


def test_only_photographs_that_both_hold_out_are_compared(monkeypatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 20)
    first, second = system(1.0), system(1.5)
    some = second.take(second.ids[200:] + second.ids[:30])
    assert compare(first, some)["num_examples"] == 70
    expected = compare(first.take(some.ids), some)["metrics"]["loss"]["difference"]
    assert compare(first, some)["metrics"]["loss"]["difference"] == pytest.approx(expected)
    renamed = dataclasses.replace(second, ids=[f"other-{name}" for name in second.ids])
    with pytest.raises(TableError, match="no photograph in common"):
        compare(first, renamed)
    with pytest.raises(TableError, match="240 photographs have other types"):
        compare(first, dataclasses.replace(second, labels=(second.labels + 1) % 3))
    with pytest.raises(TableError, match="tell apart"):
        compare(first, dataclasses.replace(second, class_names=("rest", "Type_1", "x")))
