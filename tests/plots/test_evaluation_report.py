"""The figures of an evaluation, of one run and of an ensemble."""

import dataclasses

import numpy as np

from cervix_jax import runs
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.photograph import Photograph
from cervix_jax.plots.evaluation_report import evaluation_figures
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures

NAMES = {"confusion_matrix", "reliability", "risk_coverage", "predictions"}


def test_every_figure_is_written_and_each_run_has_its_learning_curves(tmp_path) -> None:
    row = {
        "step": 3,
        "epoch": 1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "validation_loss": 0.9,
        "validation_accuracy": 0.6,
    }
    members = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs.write_metrics(tmp_path / name, [row])
        members.append(dataclasses.replace(make_member(), workdir=tmp_path / name))
    photographs = [Photograph((image,), b"", (24, 16), (None,)) for image in random_pictures(0, n=6)]
    labels = np.arange(6) % 3
    cases = LabelledPhotographs(photographs, labels, [str(i) for i in range(6)], np.arange(6), "split")
    for count, curves in ((1, {"learning_curves"}), (2, {"learning_curves_1", "learning_curves_2"})):
        predictor = make_predictor(*members[:count])
        folder = tmp_path / f"figures{count}"
        paths = evaluation_figures(folder, predictor, "test", cases, predictor.probabilities(photographs))
        assert {path.stem for path in folder.iterdir()} == {path.stem for path in paths} == NAMES | curves
