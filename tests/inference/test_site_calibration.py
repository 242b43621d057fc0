"""Calibration for a site: what is chosen, what is refused, sets that hold by case, and files that come back whole."""

import dataclasses

import numpy as np
import pytest

from cervix_jax.inference.calibration import CalibrationError
from cervix_jax.inference.conformal import describe_sets
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.site_calibration import SiteCalibration, calibrate_site, check_enough, log_losses
from cervix_jax.labels import CLASS_NAMES
from tests.inference.site_photographs import site_predictions


def test_overconfidence_and_other_shares_of_types_are_corrected() -> None:
    p, labels, ids, groups = site_predictions(60)
    made = calibrate_site(p, labels, ids, groups)
    assert made.measured["scaling"] == "vector"
    assert made.measured["losses"]["vector"] < made.measured["losses"]["temperature"] < made.measured["losses"]["none"]
    fresh, truth, _, _ = site_predictions(400, seed=1)
    assert log_losses(made.apply(fresh), truth).mean() < 0.8 * log_losses(fresh, truth).mean()


def test_the_reference_of_a_fold_is_not_what_its_scaling_was_fitted_on() -> None:
    p, labels, ids, groups = site_predictions(40)
    made = calibrate_site(p, labels, ids, groups)
    for fold, scaling in enumerate(made.fold_scalings):
        rows = made.folds == fold
        assert not set(groups[rows]) & set(groups[~rows])
        np.testing.assert_allclose(made.probabilities[rows], scaling.apply(p[rows]))
        np.testing.assert_allclose(made.crossed(p, None)[fold], scaling.apply(p))
    changed = labels.copy()
    changed[made.folds == 2] = (changed[made.folds == 2] + 1) % 3
    again = calibrate_site(p, changed, ids, groups)
    if (again.folds == made.folds).all():  # folds are stratified by labels
        np.testing.assert_allclose(again.fold_scalings[2].slopes, made.fold_scalings[2].slopes)


def test_good_probabilities_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 90)
    labels = (p.cumsum(axis=1) < rng.uniform(size=(90, 1))).sum(axis=1)
    made = calibrate_site(p, labels, [str(i) for i in range(90)], np.arange(90))
    assert made.measured["scaling"] == "none"
    assert "no scaling lowers" in made.measured["kept"]
    np.testing.assert_allclose(made.apply(p), p, atol=1e-12)


@pytest.mark.parametrize("size", [1, 5])
def test_sets_hold_for_photographs_of_new_cases(size) -> None:
    """Mean over sites; with five photographs a case, photographs counted one by one would promise too much."""
    coverages, unsafe = [], []
    for seed in range(12):
        p, labels, ids, groups = site_predictions(40, seed=seed, size=size)
        made = calibrate_site(p, labels, ids, groups)
        fresh, truth, _, _ = site_predictions(150, seed=100 + seed, size=size)
        types, sets = DecisionRule.fit(made, 0.9, 0.1).apply(made.apply(fresh), made.crossed(fresh, None))
        coverages.append(describe_sets(sets, truth)["coverage"])
        unsafe.append(((types == 0) & (truth != 0)).sum() / (truth != 0).sum())
    assert 0.88 < np.mean(coverages) < 0.97
    assert np.mean(unsafe) < 0.11


def test_the_file_comes_back_whole_or_not_at_all(tmp_path) -> None:
    p, labels, ids, groups = site_predictions(30)
    made = calibrate_site(p, labels, ids, groups, [f"{i:02}" for i in range(len(p))])
    made.save(tmp_path / "site-here-abc.json", "abc")
    back = SiteCalibration.load_site(tmp_path / "site-here-abc.json", "abc")
    assert (back.scaling, back.fold_scalings, back.digests) == (made.scaling, made.fold_scalings, made.digests)
    assert back.measured == made.measured
    np.testing.assert_array_equal(back.groups, groups)
    np.testing.assert_array_equal(back.crossed(p, None), made.crossed(p, None))
    with pytest.raises(CalibrationError, match=r"no calibration for this --site \(here\)"):
        SiteCalibration.load_site(tmp_path / "site-there-abc.json", "abc")
    with pytest.raises(CalibrationError, match="made for other runs"):
        SiteCalibration.load_site(tmp_path / "site-here-abc.json", "other")
    wrong = dataclasses.replace(made.scaling, slopes=(-1.0, 1.0, 1.0))
    dataclasses.replace(made, scaling=wrong).save(tmp_path / "site-here-abc.json", "abc")
    with pytest.raises(CalibrationError, match="its scalings do not fit"):
        SiteCalibration.load_site(tmp_path / "site-here-abc.json", "abc")


def test_too_few_cases_are_refused_however_many_photographs() -> None:
    labels, groups = np.arange(90) % 3, np.arange(90)
    check_enough(labels, groups, CLASS_NAMES)
    with pytest.raises(CalibrationError, match=r"needs 20 cases .* there are 19"):
        check_enough(np.repeat(labels[:19], 9), np.repeat(groups[:19], 9), CLASS_NAMES)
    with pytest.raises(CalibrationError, match="0 of Type_3"):
        check_enough(labels % 2, groups, CLASS_NAMES)
