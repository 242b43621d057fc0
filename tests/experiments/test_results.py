"""Tables from files that are written here, so that every number in them is known."""

import csv
import json

import numpy as np
import pytest

from cervix_jax.experiments import rendering, results
from cervix_jax.experiments.report_tables import EXPERIMENTS, Experiment, Published, Row
from cervix_jax.experiments.runner import Run
from cervix_jax.inference import ensemble
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.metrics import classification_metrics

LABELS = np.array([0, 1, 1, 2, 1, 2, 1, 0, 1, 2])


def fake_run(workdir, system, seed, probabilities, *, labels=LABELS, names=CLASS_NAMES, losses=None, ema=False):
    """Files of a run that predicts `probabilities` in its best epoch."""
    folder = workdir / f"runs/{system}-{seed}"
    folder.mkdir(parents=True)
    scores = classification_metrics(probabilities, labels, names)
    prefix = "ema_validation" if ema else "validation"
    rows = []
    for epoch, loss in enumerate(losses or [scores["loss"]], start=1):
        row = {"epoch": epoch, "train_accuracy": epoch / 10, "validation_loss": 9.0, "validation_accuracy": 0.0}
        rows.append(row | {f"{prefix}_loss": loss, f"{prefix}_accuracy": scores["accuracy"] if loss < 5 else 0.1})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "validation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_name", "label", *names])
        for i, (label, row) in enumerate(zip(labels, probabilities, strict=True)):
            writer.writerow([f"{i}.jpg", label, *map(repr, row.tolist())])
    return Run(system, seed, str(folder.relative_to(workdir)))


def random_probabilities(seed, k=3):
    return np.random.default_rng(seed).dirichlet(np.ones(k), len(LABELS))


def table(*rows):
    return Experiment("A table", "0", rows)


def test_means_and_deviations_over_seeds(tmp_path) -> None:
    each = [random_probabilities(seed) for seed in range(3)]
    found = [fake_run(tmp_path, "report", seed, p) for seed, p in enumerate(each)]
    (line,) = results.rows(table(Row("one", ("report",), Published(0.7, 0.6))), found, tmp_path)
    scores = [classification_metrics(p, LABELS, CLASS_NAMES) for p in each]
    measured = line["measured"]
    for key in ("loss", "accuracy"):
        assert measured[key] == pytest.approx(np.mean([s[key] for s in scores]))
        assert measured[f"{key}_sd"] == pytest.approx(np.std([s[key] for s in scores], ddof=1))
    assert measured["seeds"] == 3
    np.testing.assert_array_equal(measured["confusion_matrix"], sum(np.array(s["confusion_matrix"]) for s in scores))
    assert line["published"]["accuracy"] == 0.6
    assert line["reason"] is None


def test_the_interval_is_wilson_s() -> None:
    n, p, z = 296, 207 / 296, 1.959963984540054
    middle, reach = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n**2)
    expected = [(middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)]
    assert results.interval(p, n) == pytest.approx(expected)
    assert expected[1] - expected[0] == pytest.approx(0.104, abs=2e-3)  # about 5 points either way


@pytest.mark.parametrize("ema", [False, True])
def test_the_best_epoch_counts_or_the_last(tmp_path, ema: bool) -> None:
    run = fake_run(tmp_path, "report", 0, random_probabilities(0), losses=[1.0, 0.8, 7.0], ema=ema)
    best = results.outcome(tmp_path / run.folder)
    assert (best.loss, best.epoch, best.epochs, best.train_accuracy) == (0.8, 2, 3, 0.2)
    last = results.outcome(tmp_path / run.folder, "last")
    assert (last.loss, last.epoch, last.accuracy, last.train_accuracy) == (7.0, 3, 0.1, 0.3)
    assert last.confusion_matrix is None  # predictions are of the best


def test_rules_of_an_ensemble(tmp_path) -> None:
    names = ("specialist_1", "specialist_2", "specialist_3")
    each = np.stack([random_probabilities(seed) for seed in range(3)])
    losses = [0.9, 0.6, 2.0]
    found = [fake_run(tmp_path, n, 0, p, losses=[loss]) for n, p, loss in zip(names, each, losses, strict=True)]
    lines = results.rows(
        table(*(Row(rule, names, rule=rule) for rule in ("report", "mean", "geometric"))), found, tmp_path
    )
    weights = np.array([0.05, 0.35, 0.0]) / 0.4
    powers = np.exp(np.log(each).mean(axis=0))
    expected = [
        (weights[:, None, None] * each).sum(axis=0),
        each.mean(axis=0),
        powers / powers.sum(axis=1, keepdims=True),
    ]
    for line, probabilities in zip(lines, expected, strict=True):
        scores = classification_metrics(probabilities, LABELS, CLASS_NAMES)
        assert line["measured"]["loss"] == pytest.approx(scores["loss"])
        assert line["measured"]["confusion_matrix"] == scores["confusion_matrix"]


def test_one_against_the_rest_becomes_three_types(tmp_path) -> None:
    names = [f"one_vs_rest_{i}" for i in (1, 2, 3)]
    each = np.stack([random_probabilities(seed, 2) for seed in range(3)])
    found = [
        fake_run(tmp_path, name, 0, p, labels=(i == LABELS).astype(int), names=("rest", CLASS_NAMES[i]))
        for i, (name, p) in enumerate(zip(names, each, strict=True))
    ]
    rows = [*(Row(name, (name,)) for name in names), Row("together", tuple(names), rule="one_vs_rest")]
    lines = results.rows(table(*rows), found, tmp_path)
    combined = ensemble.normalize_one_vs_rest(each[:, :, 1].T)
    assert lines[-1]["measured"]["loss"] == pytest.approx(classification_metrics(combined, LABELS, CLASS_NAMES)["loss"])
    assert [line["measured"]["num_classes"] for line in lines] == [2, 2, 2, 3]
    # To tell one type from the rest is easier, so it is not compared with telling three.
    assert all(line["within_best"]["measured"] is None for line in lines)


def test_what_is_missing_or_failed_says_so_and_the_rest_stands(tmp_path) -> None:
    found = [
        fake_run(tmp_path, "report", 0, random_probabilities(0)),
        Run("initial", 0, "runs/initial-0", reason="no weights"),
        Run("crop_85", 0, "runs/crop_85-0"),
    ]
    rows = [Row(name, (name,), Published(0.7, 0.6)) for name in ("report", "initial", "crop_85")]
    lines = results.rows(table(*rows, Row("both", ("report", "initial"), rule="mean")), found, tmp_path)
    assert [line["measured"] is None for line in lines] == [False, True, True, True]
    assert [line["reason"] for line in lines] == [None, "no weights", None, "no weights"]
    page = rendering.markdown(table(*rows), lines, "Conditions.")
    assert "| initial | 0.7 | 60.0% | not run: no weights |" in page
    assert "| crop_85 | 0.7 | 60.0% | not run |" in page


def test_accuracies_within_the_best_one_s_interval_are_named(tmp_path) -> None:
    right = np.eye(3)[LABELS] * 0.8 + 0.1 / 1.5
    one_wrong, all_wrong = right.copy(), np.roll(right, 1, axis=1)
    one_wrong[0] = all_wrong[0]
    each = {"report": right, "initial": one_wrong, "crop_85": all_wrong}
    found = [fake_run(tmp_path, name, 0, p / p.sum(axis=1, keepdims=True)) for name, p in each.items()]
    rows = [
        Row(name, (name,), Published(0.7, accuracy)) for name, accuracy in zip(each, (0.70, 0.66, 0.60), strict=True)
    ]
    lines = results.rows(table(*rows), found, tmp_path)
    assert [line["within_best"] for line in lines] == [
        {"published": True, "measured": True},
        {"published": True, "measured": True},
        {"published": False, "measured": False},
    ]
    page = rendering.markdown(table(*rows), lines, "")
    assert "Published: 1 of 2 other accuracies lie inside the 95 % interval of the best, report (70.0%" in page
    assert "Measured: 1 of 2 other accuracies lie inside the 95 % interval of the best, report (100.0%" in page


@pytest.mark.parametrize("name", ["class_weights", "cleaning", "cropping"])
def test_pictures_are_drawn_of_what_there_is(tmp_path, name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert rendering.figures(name, experiment, results.rows(experiment, [], tmp_path), tmp_path) == []
    found = [fake_run(tmp_path, system, 0, random_probabilities(i)) for i, system in enumerate(experiment.systems[:3])]
    paths = rendering.figures(name, experiment, results.rows(experiment, found, tmp_path), tmp_path)
    more = {"class_weights": "class_weights_confusion", "cleaning": "cleaning_grid"}
    assert [path.stem for path in paths] == [name, *([more[name]] if name in more else [])]
    assert all(path.stat().st_size > 5000 for path in paths)
