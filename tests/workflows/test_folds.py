"""Which runs a cross-validation has, that none is trained twice, and what is refused."""

import shutil

import pytest

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.runs import RunError
from cervix_jax.workflows import folds as module
from cervix_jax.workflows.folds import FoldPlan, train_folds
from cervix_jax.workflows.verification import Report, check_runs


def test_runs_differ_by_fold_and_seed_alone(tmp_path, tiny_config) -> None:
    tiny_config.seed = 7
    plan = FoldPlan.of(tiny_config, tmp_path, ["2", "0"], 2)
    planned = plan.runs(plan.chosen)
    assert [path.name for _, path in planned] == ["fold2", "fold2_seed1", "fold0", "fold0_seed1"]
    assert [(config.selection.fold, config.seed) for config, _ in planned] == [(2, 7), (2, 8), (0, 7), (0, 8)]
    for config, _ in planned:
        config.selection.fold, config.seed = tiny_config.selection.fold, 7
        assert config.to_dict() == tiny_config.to_dict()
    assert len(plan.runs(range(5))) == len(plan.unfinished()) == 10


@pytest.mark.parametrize("fold", ["5", "-1", "first", ""])
def test_a_fold_that_is_none_is_named(tmp_path, tiny_config, fold) -> None:
    with pytest.raises(options.ConfigError, match=rf"--folds has '{fold}'.*there are 0 to 4"):
        FoldPlan.of(tiny_config, tmp_path, ["0", fold], 1)


def test_the_folder_of_a_single_run_is_refused(run, tiny_config) -> None:
    with pytest.raises(RunError, match="holds a single run"):
        FoldPlan.of(tiny_config, run[0], None, 1)


def test_finished_runs_are_not_trained_again_and_others_are(folds_copy, monkeypatch) -> None:
    plan = folds_copy
    trained = []
    monkeypatch.setattr(module.loop, "train", lambda config, workdir: trained.append(workdir.name))
    (plan.workdir / "fold0" / runs.CHECKPOINTS / "1/variables").mkdir(parents=True)  # killed while it removed the first
    train_folds(plan)
    assert trained == []
    assert not (plan.workdir / "fold0" / runs.CHECKPOINTS / "1").exists()
    rows = runs.read_metrics(plan.workdir / "fold1")
    runs.write_metrics(plan.workdir / "fold1", rows[:-1])
    assert [path.name for path in plan.unfinished()] == ["fold1"]
    train_folds(plan)
    assert trained == ["fold1"]


@pytest.mark.parametrize(
    "names",
    [
        ("run.json", "metrics.jsonl", "checkpoints/*/variables/d/*"),
        ("quality.npz", "checkpoints/*/metrics/metrics"),
    ],
)
def test_what_check_finds_in_finished_runs_is_repaired(folds_copy, names) -> None:
    for i, name in enumerate(names):
        for path in list((folds_copy.workdir / f"fold{i}").glob(name)):
            path.unlink() if name == "run.json" else path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_runs(folds_copy.workdir, found := Report())
    assert len(found.problems) == len(names)
    train_folds(folds_copy)
    check_runs(folds_copy.workdir, found := Report())
    assert found.problems == []


def test_a_run_that_was_killed_before_its_last_checkpoint_was_saved_is_not_finished(folds_copy, monkeypatch) -> None:
    """Its metrics are written first; what Orbax had begun to write has another name."""
    (checkpoint,) = [path for path in (folds_copy.workdir / "fold1" / runs.CHECKPOINTS).iterdir() if path.is_dir()]
    checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.orbax-checkpoint-tmp"))
    assert [path.name for path in folds_copy.unfinished()] == ["fold1"]


def test_another_configuration_is_refused_before_anything_is_trained(folds_copy, monkeypatch) -> None:
    plan = folds_copy
    monkeypatch.setattr(module.loop, "train", lambda *_: pytest.fail("trained"))
    config = plan.config.copy_and_resolve_references()
    config.optimizer.learning_rate = 0.5
    with pytest.raises(RunError, match="learning_rate"):
        train_folds(FoldPlan.of(config, plan.workdir, None, 1))
    shutil.rmtree(plan.workdir / "fold0")
    with pytest.raises(RunError, match="fold1"):  # which would be pooled with it
        train_folds(FoldPlan.of(config, plan.workdir, ["0"], 1))
