"""What is run, skipped, resumed and what fails; with baselines, which take no training."""

import dataclasses
from pathlib import Path

import pytest

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.experiments import runner
from cervix_jax.experiments.runner import CROPPED, VALIDATION, PlannedRun, Run, Settings, plan, run_all
from cervix_jax.experiments.variants import VARIANTS
from cervix_jax.inference.prediction_table import PredictionTable


@pytest.fixture
def settings(tiny_config) -> Settings:
    return Settings(tiny_config)


def run_variants(names: list[str], settings: Settings, workdir: Path, seeds: int = 1) -> list[Run]:
    return run_planned(plan(names, settings, seeds, [4]), workdir)


def run_planned(planned: list[PlannedRun], workdir: Path) -> list[Run]:
    return run_all(planned, load_dataset(options.validate(planned[0][1])), workdir, lambda run, runs: None)


def test_quick_is_small_with_random_backbones_unless_there_are_weights(tiny_config) -> None:
    quick = Settings(tiny_config, quick=True)
    for variant in VARIANTS.values():
        config = quick.resolve(variant, 3)
        assert config.dataset.name == "cervix/synthetic"
        assert config.seed == 3
        assert config.model.backbone.allow_random == runner.needs_weights(variant, config)
    tiny_config.model.backbone.name = "resnet50"
    assert quick.resolve(VARIANTS["report"], 0).model.backbone.allow_random
    assert dataclasses.replace(quick, scale={"epochs": 7}).resolve(VARIANTS["report"], 0).epochs == 7
    tiny_config.model.backbone.weights = "resnet.h5"
    assert not quick.resolve(VARIANTS["report"], 0).model.backbone.allow_random
    config = quick.resolve(VARIANTS["inception_v3"], 0)
    assert config.model.backbone.weights is None
    assert config.model.backbone.allow_random
    config = Settings(tiny_config, inception_weights="inception.h5").resolve(VARIANTS["inception_v3"], 0)
    assert config.model.backbone.weights == "inception.h5"


def test_other_options_are_another_folder_but_more_epochs_are_not(settings, tiny_config) -> None:
    def folders() -> list[str]:
        return [run.folder for run, _ in plan(["report", "shares"], settings, 2, [4])]

    before = folders()
    assert len(set(before)) == 4
    tiny_config.epochs += 1
    tiny_config.dataset.data_dir = "elsewhere"
    assert folders() == before
    tiny_config.dataset.crop = 0.5
    assert not set(folders()) & set(before)


def test_what_changes_the_result_is_another_folder_though_a_run_may_resume_with_it(settings, tiny_config) -> None:
    def folder() -> str:
        return plan(["report"], settings, 1, [4])[0][0].folder

    before = folder()
    tiny_config.init.workdir = "runs/other"
    fine_tuned = folder()
    tiny_config.optimizer.schedule = "cosine"
    short = folder()
    tiny_config.epochs += 1
    assert len({before, fine_tuned, short, folder()}) == 4


def test_other_weights_are_another_folder(tmp_path, tiny_config) -> None:
    tiny_config.model.backbone.name = "resnet50"
    folders = []
    for name, contents in (("a.h5", b"one"), ("b.h5", b"two"), ("copy.h5", b"one")):
        (tmp_path / name).write_bytes(contents)
        tiny_config.model.backbone.weights = str(tmp_path / name)
        folders.append([run.folder for run, _ in plan(["report", "shares"], Settings(tiny_config), 1, [4])])
    assert folders[0] == folders[2]
    assert folders[0][0] != folders[1][0]
    assert folders[0][1] == folders[1][1]  # which has no use for them


def test_each_fold_is_another_run_and_the_cervix_another_system(settings) -> None:
    planned = plan(
        ["shares", "crop_70", "report"], dataclasses.replace(settings, localiser="runs/localiser"), 1, [0, 3]
    )
    assert [(run.system, run.fold) for run, _ in planned] == [
        *(("shares", 0), ("shares", 3)),  # sees no photograph
        *(("crop_70", 0), ("crop_70", 3)),  # has a crop of its own
        *(("report", 0), ("report", 3), (f"report{CROPPED}", 0), (f"report{CROPPED}", 3)),
    ]
    assert [config.selection.fold for _, config in planned] == [0, 3] * 4
    assert [config.dataset.crop for _, config in planned[-4:]] == [1.0, 1.0, "runs/localiser", "runs/localiser"]
    assert len({run.folder for run, _ in planned}) == len(planned)
    assert planned[-1][0].variant == VARIANTS["report"]


def test_predictions_are_of_the_fold_that_is_held_out(settings, tmp_path) -> None:
    runs_of_folds = run_planned(plan(["shares"], settings, 1, [0, 1]), tmp_path)
    tables = [PredictionTable.read(tmp_path / run.folder / VALIDATION) for run in runs_of_folds]
    assert [set(table.folds) for table in tables] == [{0}, {1}]
    assert not set(tables[0].ids) & set(tables[1].ids)


def test_finished_runs_are_skipped(settings, tmp_path, monkeypatch, capsys) -> None:
    before = run_variants(["uniform", "shares"], settings, tmp_path, seeds=2)
    assert [run.reason for run in before] == [None] * 4
    monkeypatch.setattr(runner, "BASELINES", {})  # so that nothing can be run
    assert run_variants(["uniform", "shares"], settings, tmp_path, seeds=2) == before
    assert "[4/4] shares, fold 4, seed 1: already finished" in capsys.readouterr().err


def test_a_failure_leaves_its_reason_and_does_not_stop_the_others(settings, tmp_path, tiny_config, capsys) -> None:
    tiny_config.model.backbone.name = "resnet50"  # and no weights
    after = run_variants(["logistic_conv1", "uniform", "inception_v3"], settings, tmp_path)
    assert "--config.model.backbone.weights=imagenet fetches resnet50_weights" in after[0].reason
    assert after[1].reason is None
    assert "--inception_weights=imagenet fetches inception_v3_weights" in after[2].reason
    assert "[1/3] logistic_conv1, fold 4, seed 0: failed: no weights" in capsys.readouterr().err
    allowed = dataclasses.replace(settings, allow_random_backbone=True)
    (again,) = run_variants(["logistic_conv1"], allowed, tmp_path)
    assert (again.reason, again.random_backbone) == (None, True)


def test_a_defect_is_a_reason_too(settings, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(runner.BASELINES, "uniform", lambda *_: 1 / 0)
    after = run_variants(["uniform", "shares"], settings, tmp_path)
    assert [run.reason for run in after] == ["ZeroDivisionError: division by zero", None]
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_stops_and_the_same_call_resumes(settings, tmp_path, monkeypatch) -> None:
    def interrupt(*_):
        raise Interrupted("stopped")

    monkeypatch.setitem(runner.BASELINES, "shares", interrupt)
    with pytest.raises(Interrupted):
        run_variants(["uniform", "shares", "logistic_conv1"], settings, tmp_path)
    monkeypatch.undo()
    assert len(list((tmp_path / "runs").glob("*/validation.csv"))) == 1
    assert run_variants(["uniform", "shares"], settings, tmp_path)[1].reason is None


def test_records_say_what_was_run(settings, tmp_path) -> None:
    (run,) = run_variants(["shares"], settings, tmp_path)
    record = runs.read_record(tmp_path / run.folder)
    assert {"config", "versions", "revision", "data_fingerprint", "class_names"} <= set(record)
    assert record["config"]["selection"]["additional"] == "none"


def test_photographs_that_changed_are_refused(settings, tmp_path) -> None:
    (run,) = run_variants(["shares"], settings, tmp_path)
    runs.write_record(tmp_path / run.folder, data_fingerprint="other")
    (again,) = run_variants(["shares"], settings, tmp_path)
    assert "trained on other photographs" in again.reason
    assert (tmp_path / run.folder / VALIDATION).exists()  # of the photographs it was made with


def test_a_damaged_record_is_a_reason(settings, tmp_path) -> None:
    damaged, _ = run_variants(["shares", "uniform"], settings, tmp_path)
    (tmp_path / damaged.folder / runs.RECORD).write_text("{")
    again, other = run_variants(["shares", "uniform"], settings, tmp_path)
    assert "is damaged" in again.reason
    assert other.reason is None


def test_what_every_run_lacks_is_an_error(settings, tmp_path, tiny_config) -> None:
    tiny_config.dataset.data_dir, tiny_config.dataset.manual_dir = str(tmp_path / "none"), str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        run_variants(["uniform", "shares"], settings, tmp_path / "runs")
