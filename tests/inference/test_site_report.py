"""What recalibration brings is measured where it was not fitted, by case; on a synthetic site with another camera."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from cervix_jax.datasets.cases import CASES
from cervix_jax.images import synthetic
from cervix_jax.inference import clinical_metrics, site_report
from cervix_jax.inference.calibration import CalibrationError
from cervix_jax.inference.evaluation import evaluate
from cervix_jax.inference.labelled import folder_photographs
from cervix_jax.inference.site_calibration import calibrate_site
from cervix_jax.inference.site_report import Said, compare_said, cross_fitted, recalibrate
from cervix_jax.labels import CLASS_NAMES
from tests.inference.site_photographs import site_predictions


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch):
    monkeypatch.setattr(clinical_metrics, "RESAMPLES", 100)


def test_what_is_said_of_a_photograph_does_not_depend_on_its_own_label() -> None:
    p, labels, ids, groups = site_predictions(30)
    said = cross_fitted(p, labels, ids, groups, 0.9, 0.05)
    folds = site_report.stratified_folds(ids, labels, site_report.FOLDS, groups)
    others = folds != 1
    made = calibrate_site(p[others], labels[others], [ids[i] for i in np.flatnonzero(others)], groups[others])
    np.testing.assert_allclose(said.probabilities[~others], made.apply(p[~others]))
    assert said.sets.shape == p.shape


def test_a_report_says_what_improved_and_whether_photographs_are_told_apart() -> None:
    for knows, verdict in ((1.0, "better than guessing"), (0.0, "guessing")):
        p, labels, ids, groups = site_predictions(60, knows=knows)
        after = cross_fitted(p, labels, ids, groups, 0.9, 0.05)
        report = compare_said(Said.by(None, p, None, 0.9, 0.05), after, labels, ids, groups, CLASS_NAMES)
        assert report["after"]["loss"] < report["before"]["loss"]
        assert report["intervals"]["difference"]["loss"][1] < 0
        assert report["before"]["coverage"] is None
        assert report["after"]["coverage"] > 0.8
        low, high = report["intervals"]["after"]["coverage"]
        assert low < report["after"]["coverage"] < high
        assert report["guessing"]["verdict"].endswith(verdict)
        assert report["to_halve"] == {"cases": 180, "photographs": 540}
    assert report["guessing"]["verdict"] != "better than guessing"


def test_intervals_of_the_calibration_error_hold_it() -> None:
    """It is biased upwards, and in bootstrap samples twice."""
    for seed in (4, 15):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet(np.full(3, 5), 40)
        labels = np.array([rng.choice(3, p=row) for row in p])
        said = Said.by(None, p, None, 0.9, 0.05)
        report = compare_said(said, said, labels, [str(i) for i in range(40)], np.arange(40), CLASS_NAMES)
        for kind in ("before", "after"):
            low, high = report["intervals"][kind]["ece"]
            assert low <= report[kind]["ece"] <= high


def test_never_in_a_few_cases_is_not_never() -> None:
    _, labels, ids, groups = site_predictions(30)
    said = Said(np.full((90, 3), 1 / 3), np.full(90, 2), np.ones((90, 3), bool))
    report = compare_said(said, said, labels, ids, groups, CLASS_NAMES)
    assert report["after"]["unsafe_rate"] == 0
    trials = len(set(groups[labels != 0].tolist()))
    assert report["intervals"]["after"]["unsafe_rate"][1] == pytest.approx(1 - 0.025 ** (1 / trials))
    assert report["intervals"]["after"]["coverage"][0] > 0.8


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """Synthetic photographs of a camera with other colours, two a case."""
    folder = tmp_path_factory.mktemp("shifted")
    rows = ["image_name,case"]
    for i in range(48):
        drawn = synthetic.draw(21, "additional", i, label=i // 2 % 3, kind="shifted", size=(64, 48))
        path = folder / f"Type_{drawn.label + 1}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn.image).save(path)
        rows.append(f"{path.name},woman {i // 2}")
    (folder / CASES).write_text("\n".join(rows) + "\n")
    return folder


def test_a_site_is_calibrated_from_a_folder_stored_and_used_by_its_name(predictor, shifted, tmp_path) -> None:
    made = recalibrate(predictor, shifted)
    assert (made.measured["photographs"], made.measured["groups"]) == (48, 24)
    member = dataclasses.replace(predictor.members[0], workdir=tmp_path)
    moved = dataclasses.replace(predictor, members=(member,))
    made.save(moved.site_path("there"), moved.identity)
    loaded = type(made).load_site(moved.site_path("there"), moved.identity)
    of_site = dataclasses.replace(moved, calibration=loaded)
    cases = folder_photographs(moved, shifted)
    probabilities, by_fold, _ = of_site.distributions(cases.photographs)
    np.testing.assert_allclose(probabilities, made.apply(moved.probabilities(cases.photographs)), atol=1e-6)
    assert by_fold.shape == (5, 48, 3)
    with pytest.raises(CalibrationError, match="letters, digits"):
        moved.site_path("../there")
    # Measured on its own photographs, it gives what was measured cross-fitted; on others, figures of these alone.
    results = evaluate(of_site, cases)[0]
    assert results["calibrated"] == {
        "in_reference": 48,
        "cross_fitted": {name: made.measured[name] for name in ("before", "after", "intervals")},
    }
    fewer = dataclasses.replace(loaded, digests=loaded.digests[:40])
    results = evaluate(dataclasses.replace(moved, calibration=fewer), cases, unsafe_rate=0.2)[0]
    assert results["calibrated"]["num_examples"] == results["operating_point"]["num_examples"] == 8
    assert results["calibrated"]["in_reference"] == 40


def test_cases_not_photographs_count(predictor, shifted, tmp_path) -> None:
    folder = shutil.copytree(shifted, tmp_path / "few")
    rows = [f"{path.name},{int(path.stem) % 12}" for path in sorted(folder.rglob("*.jpg"))]
    (folder / CASES).write_text("\n".join(["image_name,case", *rows]))
    with pytest.raises(CalibrationError, match="needs 20 cases"):
        recalibrate(predictor, folder)
