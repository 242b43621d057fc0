"""The figures of an evaluation, of one run and of an ensemble."""

import dataclasses

import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.inference.evaluation import Evaluation
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.photograph import Photograph
from cervix_jax.plots import figures
from cervix_jax.plots.evaluation_report import evaluation_figures
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures

ROW = {
    "step": 3,
    "epoch": 1,
    "train_loss": 1.0,
    "train_accuracy": 0.5,
    "validation_loss": 0.9,
    "validation_accuracy": 0.6,
}
NAMES = {"confusion_matrix", "reliability", "risk_coverage", "predictions"}


def test_every_figure_is_written_and_each_run_has_its_learning_curves(tmp_path) -> None:
    members = []
    for name in ("a", "b", "lost"):
        (tmp_path / name).mkdir()
        runs.write_metrics(tmp_path / name, [ROW] if name != "lost" else [])
        members.append(dataclasses.replace(make_member(), workdir=tmp_path / name))
    photographs = [Photograph((image,), b"", (24, 16), (None,)) for image in random_pictures(0, n=6)]
    labels = np.arange(6) % 3
    cases = LabelledPhotographs(photographs, labels, [str(i) for i in range(6)], np.arange(6), "split")
    several = {"learning_curves_1", "learning_curves_2"}
    for count, curves in ((1, {"learning_curves"}), (2, several), (3, several)):
        predictor = make_predictor(*members[:count])
        folder = tmp_path / f"figures{count}"
        evaluation = Evaluation({}, predictor.probabilities(photographs))
        paths = evaluation_figures(folder, predictor, "test", cases, evaluation)
        assert {path.stem for path in folder.iterdir()} == set(paths) == NAMES | curves


@pytest.mark.parametrize(
    ("metrics", "labels"),
    [
        ({}, ["not calibrated"]),
        ({"calibrated": {"temperature": 1.0, "reliability": []}}, ["calibrated; the temperature is 1"]),
        (
            {"calibrated": {"temperature": 1.234, "reliability": ["after"]}},
            ["before the temperature", "after the temperature, 1.23"],
        ),
    ],
)
def test_reliability_says_whether_it_is_before_or_after_the_temperature(tmp_path, monkeypatch, metrics, labels) -> None:
    drawn = []
    monkeypatch.setattr(figures, "reliability", lambda curves, *_: drawn.append(curves))
    photographs = [Photograph((image,), b"", (24, 16), (None,)) for image in random_pictures(0, n=3)]
    cases = LabelledPhotographs(photographs, np.arange(3), ["a", "b", "c"], np.arange(3), "split")
    member = dataclasses.replace(make_member(), workdir=tmp_path)
    runs.write_metrics(tmp_path, [ROW])
    evaluation = Evaluation(metrics, np.eye(3))
    evaluation_figures(tmp_path / "figures", make_predictor(member), "test", cases, evaluation)
    assert list(drawn[0]) == labels
    assert sum(row["count"] for row in drawn[0][labels[0]]) == 3
    assert len(labels) == 1 or drawn[0][labels[1]] == ["after"]
