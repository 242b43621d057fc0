"""Experiments from runs to tables, with small networks on drawn photographs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cervix_jax.errors import UserError
from cervix_jax.experiments import experiment
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.runner import Settings, plan, run_all
from cervix_jax.experiments.variants import VARIANTS

# They differ from a variant that is trained here by a number only, in an option that takes any number.
ONLY_ANOTHER_NUMBER = {
    *("crop_85", "crop_55", "crop_40"),
    *("weights_5.88_1.89_3.33", "weights_4.88_1.89_3.33", "weights_4.88_1.89_2.33"),
    *(name for name in VARIANTS if name.startswith("kept_") and name != "kept_25_sharp_4"),
    *("trained_6", "trained_12", "frozen_6", "frozen_12"),
}

# In a process of its own, where types are not checked at every call: half the time.
RUN = """
import sys
from pathlib import Path
from cervix_jax.experiments import experiment, runner, variants
data_dir, workdir, *systems = sys.argv[1:]
config = variants.get_config("report")
config.dataset.data_dir = data_dir
settings = runner.Settings(config, quick=True)
runs = runner.run_all(runner.plan(systems, settings, seeds=1), Path(workdir), lambda runs: None)
for name, table in experiment.EXPERIMENTS.items():
    experiment.write_table(name, Path(workdir), [run for run in runs if run.system in table.systems])
"""


def run_quick(data_dir: Path, workdir: Path, systems: list[str]) -> Path:
    """Runs and tables of all ten experiments in one work directory, as users have them."""
    command = [sys.executable, "-c", RUN, str(data_dir), str(workdir), *systems]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    return workdir


def check_table(name: str, workdir: Path, systems: list[str]) -> None:
    table = experiment.write_table(name, workdir)
    assert table["failed"] == 0
    assert len(table["rows"]) == len(EXPERIMENTS[name].rows)
    for row in table["rows"]:
        assert row["reason"] is None
        if set(row["systems"]) <= set(systems):
            assert row["measured"]["loss"] > 0
            assert row["measured"]["num_examples"] == 120
            random = any(VARIANTS[system].backbone != "none" for system in row["systems"])
            assert row["measured"]["random_backbone"] == random
        else:
            assert row["measured"] is None


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, data_dir) -> Path:
    systems = [name for name in VARIANTS if name not in ONLY_ANOTHER_NUMBER]
    return run_quick(data_dir, tmp_path_factory.mktemp("reproduce"), systems)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick(name: str, workdir) -> None:
    check_table(name, workdir, [system for system in VARIANTS if system not in ONLY_ANOTHER_NUMBER])


def test_the_variants_of_an_experiment_differ_in_what_they_learn(workdir) -> None:
    rows = experiment.write_table("regularisation", workdir)["rows"]
    assert len({row["measured"]["loss"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_quick_with_every_variant(tmp_path, data_dir) -> None:
    run_quick(data_dir, tmp_path, list(VARIANTS))
    for name in EXPERIMENTS:
        check_table(name, tmp_path, list(VARIANTS))


def test_an_experiment_shares_its_runs_and_resumes(tmp_path, tiny_config, capsys) -> None:
    """Its table is rewritten after each run; the second call, of another experiment, finds the first one's runs."""
    settings = Settings(tiny_config)
    tiny_config.epochs = 1
    table = experiment.run_experiment("finetune", tmp_path, settings, seeds=1)
    assert [row["measured"]["seeds"] for row in table["rows"]] == [1, 1]
    assert all(Path(path).stat().st_size for path in table["files"])
    assert "32 x 24 pixels, 1 epochs, batch 16, 1 seed(s)." in (tmp_path / "finetune.md").read_text()
    capsys.readouterr()
    again = experiment.run_experiment("finetune", tmp_path, settings, seeds=1)
    assert again == table
    assert capsys.readouterr().err.count("already finished") == 2


def test_a_table_needs_nothing_but_the_work_directory(tiny_config, tmp_path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    runs = run_all(plan(["uniform", "shares"], Settings(tiny_config), 1), before, lambda runs: None)
    table = experiment.write_table("baselines", before, runs)
    shutil.move(before, after)
    for path in after.glob("baselines.[mp]*"):
        path.unlink()
    assert experiment.write_table("baselines", after)["rows"] == table["rows"]
    page = (after / "baselines.md").read_text()
    assert page.count("\n| ") == len(EXPERIMENTS["baselines"].rows) + 2
    assert "| always equal | 1.099 |  | 1.099 |" in page
    with pytest.raises(experiment.ExperimentError, match=r"has no table of depth: depth\.json is missing"):
        experiment.write_table("depth", after)


def test_an_experiment_whose_runs_all_fail_is_an_error(tmp_path, tiny_config) -> None:
    tiny_config.model.backbone.name = "resnet50"  # and no weights
    with pytest.raises(UserError, match=r"all 2 runs failed\. trained_3: no weights"):
        experiment.run_experiment("finetune", tmp_path / "new", Settings(tiny_config), 1)
    assert "not run: no weights" in (tmp_path / "new/finetune.md").read_text()
