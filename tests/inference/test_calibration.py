"""Temperature: scikit-learn's as the oracle, a known one found again, and halves that do not leak."""

import contextlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from cervix_jax.inference import calibration
from cervix_jax.training.metrics import cross_entropy


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its logits."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)


def drawn(temperature: float, count: int, seed: int = 0):
    """Logits, and labels drawn from their probabilities at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 3))
    uniform = rng.uniform(size=(count, 1))
    return logits, (softmax(logits / temperature, axis=1).cumsum(axis=1) < uniform).sum(axis=1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_scikit_learn_s(true) -> None:
    logits, labels = drawn(true, 500)
    oracle = CalibratedClassifierCV(FrozenEstimator(Logits().fit(logits, labels)), method="temperature")
    oracle.fit(logits, labels)
    found = calibration.fit_temperature(softmax(logits, axis=1), labels)
    np.testing.assert_allclose(
        calibration.apply_temperature(softmax(logits, axis=1), found), oracle.predict_proba(logits), atol=2e-4
    )


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_again(true) -> None:
    logits, labels = drawn(true, 20_000)
    assert calibration.fit_temperature(softmax(logits, axis=1), labels) == pytest.approx(true, rel=0.03)


def test_no_other_temperature_has_less_cross_entropy() -> None:
    logits, labels = drawn(2.0, 300)
    p = softmax(logits, axis=1)
    found = calibration.fit_temperature(p, labels)
    least = cross_entropy(calibration.apply_temperature(p, found), labels)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert cross_entropy(calibration.apply_temperature(p, factor * found), labels) > least


def test_a_temperature_divides_logits_and_keeps_the_order() -> None:
    logits, _ = drawn(1.0, 50)
    p = softmax(logits, axis=1)
    np.testing.assert_allclose(calibration.apply_temperature(p, 2.5), softmax(logits / 2.5, axis=1), atol=1e-12)
    np.testing.assert_array_equal(calibration.apply_temperature(p, 2.5).argsort(1), p.argsort(1))
    assert calibration.apply_temperature(p, 1.0) is p
    certain = np.array([[1.0, 0.0, 0.0]])
    assert np.isfinite(calibration.apply_temperature(certain, 0.1)).all()
    on_device = calibration.apply_temperature(jnp.asarray(p, jnp.float32), 2.5)
    np.testing.assert_allclose(on_device, softmax(logits / 2.5, axis=1), atol=1e-6)


def test_certainty_and_error_do_not_run_away() -> None:
    sure = np.full((12, 3), 0.01) + 0.97 * np.eye(3)[np.arange(12) % 3]
    low, high = calibration.TEMPERATURE_BOUNDS
    assert low <= calibration.fit_temperature(sure, np.arange(12) % 3) < 0.2
    assert 0.9 * high < calibration.fit_temperature(sure, (np.arange(12) + 1) % 3) <= high


def test_halves_share_no_photograph_and_no_scene() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 60), np.repeat(np.arange(30), 2)
    ids = [f"{i}.jpg" for i in range(60)]
    fitting, reference = calibration.halves(ids, labels, groups)
    assert not (fitting & reference).any()
    assert (fitting | reference).all()
    assert not set(groups[fitting]) & set(groups[reference])
    order = rng.permutation(60)
    again, _ = calibration.halves([ids[i] for i in order], labels[order], groups[order])
    np.testing.assert_array_equal(again, fitting[order])
    for few in (groups[:11], np.zeros(20, int), np.zeros(0, int)):
        with pytest.raises(calibration.CalibrationError, match="needs 6 labelled validation photographs in each half"):
            calibration.halves(ids[: len(few)], labels[: len(few)], few)


def test_a_calibration_measures_where_it_was_not_fitted_and_comes_back_from_its_file(tmp_path) -> None:
    logits, labels = drawn(2.0, 400)
    p, ids, groups = softmax(logits, axis=1), [str(i) for i in range(400)], np.arange(400)
    made = calibration.calibrate(p, labels, ids, groups)
    fitting, reference = calibration.halves(ids, labels, groups)
    assert made.temperature == calibration.fit_temperature(p[fitting], labels[fitting])
    assert made.measured["before"]["loss"] == cross_entropy(p[reference], labels[reference])
    assert made.measured["after"]["loss"] < made.measured["before"]["loss"]
    np.testing.assert_array_equal(made.probabilities, calibration.apply_temperature(p[reference], made.temperature))
    np.testing.assert_array_equal(made.labels, labels[reference])
    assert made.measured["kept"] is None
    made.save(tmp_path / "c.json", "this")
    back = calibration.Calibration.load(tmp_path / "c.json", "this")
    np.testing.assert_array_equal(back.probabilities, made.probabilities)
    np.testing.assert_array_equal(back.labels, made.labels)
    assert (back.temperature, back.measured) == (made.temperature, made.measured)
    assert calibration.Calibration.load(tmp_path / "none.json", "this") is None


def test_a_temperature_that_harms_or_cannot_be_told_is_not_used(capsys) -> None:
    """The photographs that fit it are classified perfectly, so that it would make the others certain; or it harms."""
    labels, ids, groups = np.arange(120) % 3, [f"{i}" for i in range(120)], np.arange(120)
    fitting, reference = calibration.halves(ids, labels, groups)
    for sure_of_fitting, reason in ((0.999, "at its limit"), (0.6, "worse")):
        p = np.empty((120, 3))
        p[fitting] = (1 - sure_of_fitting) / 2 + (1.5 * sure_of_fitting - 0.5) * np.eye(3)[labels[fitting]]
        called = (labels + (np.arange(120) % 5 == 0)) % 3  # one in five is wrong
        if reason == "worse":
            right = np.flatnonzero(fitting)[::10]
            p[right] = p[right][:, [1, 2, 0]]  # a few errors, so that the best temperature is within its limits
        p[reference] = 0.1 + 0.7 * np.eye(3)[called[reference]]
        made = calibration.calibrate(p, labels, ids, groups)
        assert made.temperature == 1
        assert reason in made.measured["kept"]
        assert made.measured["after"] == made.measured["before"]
        np.testing.assert_array_equal(made.probabilities, p[reference])
        assert "the temperature stays 1" in capsys.readouterr().err


def test_of_a_cross_validation_each_fold_is_calibrated_by_the_others(tmp_path) -> None:
    logits, labels = drawn(2.0, 400)
    p, folds = softmax(logits, axis=1), np.arange(400) % 4
    made = calibration.calibrate(p, labels, [str(i) for i in range(400)], np.arange(400), folds)
    assert made.temperature == calibration.fit_temperature(p, labels)
    assert made.measured["reference"] == made.measured["fitted_on"] == 400
    for fold in range(4):
        own = calibration.fit_temperature(p[folds != fold], labels[folds != fold])
        expected = calibration.apply_temperature(p[folds == fold], own)
        np.testing.assert_array_equal(made.probabilities[folds == fold], expected)
        assert made.fold_temperatures[fold] == own
    by_fold = np.stack([p[:7]] * 4)
    expected = [calibration.apply_temperature(p[:7], temperature) for temperature in made.fold_temperatures]
    np.testing.assert_array_equal(made.crossed(p[:7], by_fold), expected)
    made.save(tmp_path / "c.json", "this")
    back = calibration.Calibration.load(tmp_path / "c.json", "this")
    np.testing.assert_array_equal(back.folds, folds)
    assert back.fold_temperatures == made.fold_temperatures
    with pytest.raises(calibration.CalibrationError, match="needs 6 labelled photographs in each fold"):
        calibration.calibrate(p[:20], labels[:20], [str(i) for i in range(20)], np.arange(20), folds[:20])


def saved(tmp_path):
    labels = np.arange(12) % 3
    made = calibration.Calibration(2.0, 0.1 + 0.7 * np.eye(3)[labels], labels, {"sets": {}})
    made.save(tmp_path / "c.json", "this")
    return tmp_path / "c.json"


def test_any_flipped_bit_of_a_calibration_is_found(tmp_path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 60, replace=False).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with contextlib.suppress(ValueError):
            if json.loads(flipped) == json.loads(content):  # white space for other white space
                continue
        with pytest.raises(calibration.CalibrationError, match=r"c\.json cannot be used: .*calibrate again"):
            calibration.Calibration.load(path, "this")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", float("nan"), "its temperature is nan"),
        ("temperature", -1.0, "its temperature is -1.0"),
        ("temperature", 0.001, "its temperature is 0.001"),
        ("probabilities", np.full((12, 3), 0.5), "no distributions"),
        ("probabilities", np.full((12, 3), float("nan")), "no distributions"),
        ("labels", np.full(12, 3), "labels do not fit"),
        ("folds", np.arange(12) // 6, "folds do not fit"),  # without a temperature of each
    ],
)
def test_a_calibration_that_cannot_be_is_refused_whoever_wrote_it(tmp_path, name, value, message) -> None:
    labels = np.arange(12) % 3
    fields = {"temperature": 2.0, "probabilities": 0.1 + 0.7 * np.eye(3)[labels], "labels": labels, "measured": {}}
    calibration.Calibration(**(fields | {name: value})).save(tmp_path / "c.json", "this")
    with pytest.raises(calibration.CalibrationError, match=message):
        calibration.Calibration.load(tmp_path / "c.json", "this")


def test_json_that_is_nested_too_deeply_is_refused(tmp_path) -> None:
    (tmp_path / "c.json").write_text("[" * 99999)
    with pytest.raises(calibration.CalibrationError, match="cannot be used: maximum recursion depth"):
        calibration.Calibration.load(tmp_path / "c.json", "this")


def test_a_calibration_of_other_runs_is_refused(tmp_path) -> None:
    with pytest.raises(calibration.CalibrationError, match="other runs or other flags"):
        calibration.Calibration.load(saved(tmp_path), "that")
