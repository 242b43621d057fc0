"""What is done, what is skipped, what goes on, and what fails; with systems that take no training, or almost none."""

import dataclasses
import shutil

import pytest

from cervix_jax import runs
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.experiments import reproduction, runner, variants
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.runner import Settings, plan, run_all
from cervix_jax.experiments.variants import VARIANTS


@pytest.fixture
def settings(tiny_config) -> Settings:
    return Settings(tiny_config)


def do(names, settings, workdir, seeds=1):
    return run_all(plan(names, settings, seeds), workdir, lambda done: None)


def test_quick_reproduces_in_small_with_random_backbones_unless_there_are_weights(tiny_config) -> None:
    quick = Settings(tiny_config, quick=True)
    for system in VARIANTS.values():
        config = quick.resolve(system, 3)
        assert config.dataset.name == "cervix/synthetic"
        assert config.seed == 3
        assert config.model.backbone.allow_random == runner.needs_weights(system, config)
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


def test_another_config_is_another_folder_but_not_more_epochs(settings, tiny_config) -> None:
    def folders():
        return [run.folder for run, _ in plan(["report", "shares"], settings, 2)]

    before = folders()
    assert len(set(before)) == 4
    tiny_config.epochs += 1
    tiny_config.dataset.data_dir = "elsewhere"
    assert folders() == before
    tiny_config.dataset.crop = 0.5
    assert not set(folders()) & set(before)


def test_finished_runs_are_not_done_again(settings, tmp_path, monkeypatch) -> None:
    before = do(["uniform", "shares"], settings, tmp_path, seeds=2)
    assert [run.reason for run in before] == [None] * 4

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(runner, "_do", fail)
    assert do(["uniform", "shares"], settings, tmp_path, seeds=2) == before


def test_a_failure_leaves_its_reason_and_the_others_go_on(settings, tmp_path, tiny_config, capsys) -> None:
    tiny_config.model.backbone.name = "resnet50"  # and no weights
    found = do(["logistic_conv1", "uniform", "inception_v3"], settings, tmp_path)
    assert "--config.model.backbone.weights=imagenet fetches resnet50_weights" in found[0].reason
    assert found[1].reason is None
    assert "--inception_weights=imagenet fetches inception_v3_weights" in found[2].reason
    assert "[1/3] logistic_conv1, seed 0: failed: no weights" in capsys.readouterr().err
    reproduction.tabulate("baselines", tmp_path, found)
    page = (tmp_path / "baselines.md").read_text()
    assert "not run: no weights: --config.model.backbone.weights=imagenet" in page
    assert "| always equal | 1.099 |  | 1.099 |" in page
    # Once there are weights (here: none are needed), the same command does it.
    allowed = dataclasses.replace(settings, allow_random_backbone=True)
    (again,) = do(["logistic_conv1"], allowed, tmp_path)
    assert (again.reason, again.random_backbone) == (None, True)


def test_a_defect_is_a_reason_too(settings, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(runner.FITTED, "uniform", lambda *_: 1 / 0)
    found = do(["uniform", "shares"], settings, tmp_path)
    assert [run.reason for run in found] == ["ZeroDivisionError: division by zero", None]
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_stops_and_the_same_call_goes_on(settings, tmp_path, monkeypatch) -> None:
    def interrupt(*_):
        raise Interrupted("stopped")

    monkeypatch.setitem(runner.FITTED, "shares", interrupt)
    with pytest.raises(Interrupted):
        do(["uniform", "shares", "logistic_conv1"], settings, tmp_path)
    monkeypatch.undo()
    assert len(list((tmp_path / "runs").glob("*/validation.csv"))) == 1
    assert do(["uniform", "shares"], settings, tmp_path)[1].reason is None


def test_a_table_needs_nothing_but_the_work_directory(settings, tmp_path) -> None:
    found = do(["uniform", "shares"], settings, tmp_path / "here")
    table = reproduction.tabulate("baselines", tmp_path / "here", found)
    shutil.move(tmp_path / "here", tmp_path / "there")
    for path in (tmp_path / "there").glob("baselines.[mp]*"):
        path.unlink()
    again = reproduction.tabulate("baselines", tmp_path / "there")
    assert again["rows"] == table["rows"]
    assert (tmp_path / "there/baselines.md").read_text().count("\n| ") == len(EXPERIMENTS["baselines"].rows) + 2
    with pytest.raises(reproduction.ExperimentError, match=r"has no table of depth: depth\.json is missing"):
        reproduction.tabulate("depth", tmp_path / "there")


def test_records_say_what_was_run(settings, tmp_path) -> None:
    (run,) = do(["shares"], settings, tmp_path)
    record = runs.read_record(tmp_path / run.folder)
    assert {"config", "versions", "revision", "data_fingerprint", "class_names"} <= set(record)
    assert record["config"]["selection"]["additional"] == "none"


def test_photographs_that_changed_are_refused(settings, tmp_path) -> None:
    (run,) = do(["shares"], settings, tmp_path)
    runs.write_record(tmp_path / run.folder, data_fingerprint="other")
    (again,) = do(["shares"], settings, tmp_path)
    assert "trained on other photographs" in again.reason
    assert (tmp_path / run.folder / runner.PREDICTIONS).exists()  # of the photographs that it was made with
    table = reproduction.tabulate("baselines", tmp_path, [again])
    assert [line["measured"] for line in table["rows"] if line["systems"] == ["shares"]] == [None]


def test_other_weights_are_another_run(tmp_path, tiny_config) -> None:
    tiny_config.model.backbone.name = "resnet50"
    folders = []
    for name, contents in (("a.h5", b"one"), ("b.h5", b"two"), ("copy.h5", b"one")):
        (tmp_path / name).write_bytes(contents)
        tiny_config.model.backbone.weights = str(tmp_path / name)
        folders.append([run.folder for run, _ in plan(["report", "shares"], Settings(tiny_config), 1)])
    assert folders[0] == folders[2]
    assert folders[0][0] != folders[1][0]
    assert folders[0][1] == folders[1][1]  # which has no use for them


def test_an_experiment_of_which_nothing_could_be_done_is_an_error(tmp_path, tiny_config) -> None:
    tiny_config.model.backbone.name = "resnet50"
    with pytest.raises(UserError, match=r"none of the 2 runs could be done\. trained_3: no weights"):
        reproduction.reproduce("finetune", tmp_path / "new", Settings(tiny_config), 1)
    assert "not run: no weights" in (tmp_path / "new/finetune.md").read_text()


def test_costs_grow_with_what_is_asked_for(tiny_config) -> None:
    tiny_config.epochs, tiny_config.dataset.image_size = 10, (320, 240)
    found = {row["experiment"]: row for row in reproduction.costs(Settings(tiny_config), 1, 2400, 24.0)}
    assert set(found) == set(EXPERIMENTS)
    # The report's system and the one that trains its backbone: 10 epochs of 100 seconds, by their costs.
    expected = (1 + variants.VARIANTS["trained_3"].cost) * 10 * 100 / 3600
    assert found["finetune"]["hours"] == pytest.approx(expected, abs=0.01)
    tiny_config.dataset.image_size = (160, 120)
    smaller = reproduction.costs(Settings(tiny_config), 4, 2400, 24.0)
    assert [row["runs"] for row in smaller] == [4 * row["runs"] for row in found.values()]
    assert smaller[6]["hours"] == pytest.approx(expected, abs=0.02)


def test_what_every_run_lacks_is_said_once(settings, tmp_path, tiny_config) -> None:
    tiny_config.dataset.data_dir, tiny_config.dataset.manual_dir = str(tmp_path / "none"), str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        do(["uniform", "shares"], settings, tmp_path / "runs")


def test_time_left_is_by_what_was_done(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    clock = runner._Clock(3.0)
    assert clock.time_left() == ""
    now[0] = 600.0
    clock.done(1.0)
    assert clock.time_left() == ", about 20 min left"
