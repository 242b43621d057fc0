"""Folds brought together: every photograph once, pooled metrics, nothing computed twice, and folds that are missing."""

import json

import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference import clinical_metrics, localisation
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.training import metrics as training_metrics
from cervix_jax.training.localiser import Localiser
from cervix_jax.workflows import cross_validation
from cervix_jax.workflows.cross_validation import RESULTS, TABLE, gather
from cervix_jax.workflows.folds import FoldPlan, train_folds
from tests.conftest import make_localiser_config


@pytest.fixture(autouse=True)
def few_bootstrap_samples(monkeypatch):
    for module in (clinical_metrics, localisation):
        monkeypatch.setattr(module, "RESAMPLES", 20)


def test_folds_become_a_table_of_all_photographs_and_metrics_that_agree(folds_copy, manual_dir) -> None:
    plan = folds_copy
    result = gather(plan)
    table = PredictionTable.read(plan.workdir / TABLE)
    photographs = (manual_dir / "train").rglob("*.jpg")
    assert sorted(table.ids) == sorted(path.relative_to(manual_dir).as_posix() for path in photographs)
    assert result["num_examples"] == 60
    assert result["loss"] == pytest.approx(training_metrics.cross_entropy(table.probabilities, table.labels), abs=1e-6)
    for fold, row in result["folds"].items():
        recorded = runs.read_metrics(plan.workdir / f"fold{fold}")[-1]  # what training measured
        assert row["loss"] == pytest.approx(recorded["validation_loss"], abs=1e-5)
        assert row["num_examples"] == (table.folds == int(fold)).sum()
    losses = [row["loss"] for row in result["folds"].values()]
    assert result["spread"]["loss"] == pytest.approx(np.std(losses, ddof=1))
    assert json.loads((plan.workdir / RESULTS).read_text()) == result


def test_nothing_is_computed_again_while_the_runs_are_the_same(folds_copy, monkeypatch) -> None:
    first = gather(folds_copy)
    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "split_photographs", lambda *_: pytest.fail("computed"))
        assert gather(folds_copy) == first
    (folds_copy.workdir / RESULTS).write_text("{}")
    assert gather(folds_copy) == first
    (folds_copy.workdir / TABLE).unlink()
    assert gather(folds_copy) == first


def test_folds_that_are_not_trained_are_named(folds_copy, capsys) -> None:
    path = folds_copy.workdir / "fold2"
    runs.write_metrics(path, [])
    assert gather(folds_copy) == {"unfinished": [str(path)]}
    assert f"to be trained before the folds can be brought together: {path}" in capsys.readouterr().err
    assert not (folds_copy.workdir / TABLE).exists()


def test_localisers_are_cross_validated_too(tmp_path, manual_dir, data_dir) -> None:
    config = make_localiser_config(manual_dir, data_dir)
    config.epochs, config.selection.folds = 1, 2
    assert config.selection.fold > 1  # the default is no fold of these
    plan = FoldPlan.of(config, tmp_path / "cv", None, 1)
    train_folds(plan)
    result = gather(plan)
    assert result["num_examples"] == 60
    header, *rows = (plan.workdir / TABLE).read_text().splitlines()
    assert header == "image_name,left,top,right,bottom,confidence"
    found = {name: np.array(numbers, float) for name, *numbers in (row.split(",") for row in rows)}
    assert len(found) == 60
    for fold in range(2):
        localiser = Localiser.restore(plan.workdir / f"fold{fold}")
        examples = load_dataset(localiser.config).examples("validation")
        boxes, _ = localiser.locate(examples.images)
        for name, box in zip(examples.ids, boxes, strict=True):
            np.testing.assert_allclose(found[name][:4], box, atol=1e-4)
