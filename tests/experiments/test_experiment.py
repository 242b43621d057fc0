"""Experiments from runs to tables, with small networks on synthetic photographs."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.errors import UserError
from cervix_jax.experiments import experiment
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.runner import Settings
from cervix_jax.experiments.system_results import FOLDER
from cervix_jax.experiments.variants import VARIANTS, get_config
from cervix_jax.images import synthetic

# At least one for each experiment and each kind of variant; others differ from these by a number.
TRAINED = (
    *("uniform", "shares", "logistic_conv1", "overfitted", "initial", "report"),
    *("crop_70", "weights_2.5_1.0_1.5", "kept_100_sharp_0", "no_backbone", "inception_v3", "trained_3"),
    *("without_batch_norm", "specialist_1", "one_vs_rest_1"),
)
# As `reproduce` with one work directory for all experiments; in a process of its own, where types are not checked at
# every call: half the time.
RUN = """
import ast, sys
from pathlib import Path
from cervix_jax import config as defaults
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.experiments import runner, system_results, variants
workdir, systems, options, scale = Path(sys.argv[1]), *map(ast.literal_eval, sys.argv[2:])
config = variants.get_config("report")
config.update_from_flattened_dict(options)
settings = runner.Settings(config, quick=True, scale=scale)
planned = runner.plan(systems, settings, seeds=1, folds=[4])


def keep(ended, runs):
    system_results.SystemResult.collect(ended.system, [ended], workdir).write(workdir / system_results.FOLDER)


runner.run_all(planned, load_dataset(defaults.validate(planned[0][1])), workdir, keep)
"""


def run_quick(workdir: Path, systems: tuple[str, ...], options: dict, scale: dict) -> None:
    command = [sys.executable, "-c", RUN, str(workdir), repr(systems), repr(options), repr(scale)]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)


def check_table(name: str, workdir: Path, systems: tuple[str, ...], num_examples: int) -> None:
    table = experiment.write_table(name, workdir)
    assert len(table["rows"]) == len(EXPERIMENTS[name].rows)
    for row in table["rows"]:
        assert row["reason"] is None
        assert (row["measured"] is not None) == (set(row["systems"]) <= set(systems))
        if row["measured"]:
            assert row["measured"]["loss"] > 0
            assert row["measured"]["num_examples"] == num_examples
            random = any(VARIANTS[system].backbone != "none" for system in row["systems"])
            assert row["measured"]["random_backbone"] == random


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """On the variants' own data set, with few photographs."""
    folder = tmp_path_factory.mktemp("cleaned")
    synthetic.write_folder(folder / "raw", seed=3, counts={"train": 60, "additional": 30, "test": 0})
    config = get_config("report")
    config.dataset.manual_dir, config.dataset.data_dir = str(folder / "raw"), str(folder / "prepared")
    return Settings(config, quick=True, scale={"dataset.name": "cervix/cleaned", "batch_size": 16})


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, settings) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    places = {f"dataset.{name}": settings.config.dataset[name] for name in ("manual_dir", "data_dir")}
    run_quick(folder, TRAINED, places, settings.scale)
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_ends_in_its_table(name: str, workdir) -> None:
    check_table(name, workdir, TRAINED, num_examples=12)
    assert any(row["measured"] for row in experiment.write_table(name, workdir)["rows"])


@pytest.mark.parametrize("name", ["cleaning", "cropping", "class_weights", "regularisation"])
def test_variants_learn_something_else(name: str, workdir) -> None:
    measured = [row["measured"] for row in experiment.write_table(name, workdir)["rows"]]
    losses = [row["loss"] for row in measured if row]
    assert len(set(losses)) == len(losses) > 1


@pytest.mark.slow
def test_quick_with_every_variant(tmp_path, data_dir) -> None:
    run_quick(tmp_path, tuple(VARIANTS), {"dataset.data_dir": str(data_dir)}, {})
    for name in EXPERIMENTS:
        check_table(name, tmp_path, tuple(VARIANTS), num_examples=120)


def test_an_experiment_finds_the_runs_of_another(workdir, settings, capsys) -> None:
    before = experiment.write_table("finetune", workdir)
    after = experiment.run_experiment("finetune", workdir, settings, folds=[4])
    assert capsys.readouterr().err.count("already finished") == 2
    assert after == before
    assert [row["measured"]["folds"] for row in after["rows"]] == [[4], [4]]
    assert all(Path(path).stat().st_size for path in after["files"])
    page = (workdir / "finetune.md").read_text()
    assert page.startswith("# Training the first 3 layers of ResNet-50 (report section 11.3)\n")
    assert "cervix/cleaned, 32 x 24 pixels, batch 16, epochs: 1, folds: 1, seeds: 1; 12 photographs, each by a" in page


def test_pages_need_nothing_but_what_is_kept(workdir, tmp_path) -> None:
    shutil.copytree(workdir / FOLDER, tmp_path / FOLDER)
    summary = experiment.write_results_page(tmp_path)
    claims = [claim for entry in EXPERIMENTS.values() for claim in entry.claims]
    assert sum(summary["conclusions"].values()) == len(claims)
    assert "trained_20" in summary["missing"]
    page = (tmp_path / "RESULTS.md").read_text()
    assert all(f"| {claim.text} |" in page for claim in claims)
    assert page.count("\n## ") == len(EXPERIMENTS)
    assert all(Path(path).stat().st_size for path in summary["files"])
    with pytest.raises(experiment.ExperimentError, match="has no results"):
        experiment.write_results_page(tmp_path / "empty")


def test_folds_and_seeds_that_other_calls_have_done_are_kept_too(tiny_config, tmp_path, monkeypatch) -> None:
    small = dataclasses.replace(EXPERIMENTS["baselines"], rows=EXPERIMENTS["baselines"].rows[:2], base="always equal")
    monkeypatch.setitem(EXPERIMENTS, "baselines", dataclasses.replace(small, claims=()))
    for fold in (0, 3):
        table = experiment.run_experiment("baselines", tmp_path, Settings(tiny_config), folds=[fold])
    assert [row["measured"]["folds"] for row in table["rows"]] == [[0, 3], [0, 3]]
    uniform, shares = (row["measured"] for row in table["rows"])
    assert uniform["loss"] == pytest.approx(np.log(3))
    assert shares["difference"]["loss"]["value"] == pytest.approx(shares["loss"] - uniform["loss"])
    for seeds in (2, 1):
        table = experiment.run_experiment("baselines", tmp_path, Settings(tiny_config), seeds, folds=[0, 3])
    assert [row["measured"]["seeds"] for row in table["rows"]] == [2, 2]


def test_folds_of_other_photographs_are_not_brought_together(tiny_config, tmp_path, monkeypatch) -> None:
    guesses = dataclasses.replace(EXPERIMENTS["baselines"], rows=EXPERIMENTS["baselines"].rows[:2], claims=())
    monkeypatch.setitem(EXPERIMENTS, "baselines", dataclasses.replace(guesses, base="always equal"))
    experiment.run_experiment("baselines", tmp_path, Settings(tiny_config), folds=[0])
    for folder in (tmp_path / "runs").iterdir():
        runs.write_record(folder, data_fingerprint="other")
    table = experiment.run_experiment("baselines", tmp_path, Settings(tiny_config), folds=[3])
    assert [row["measured"]["folds"] for row in table["rows"]] == [[3], [3]]


def test_an_experiment_whose_runs_all_fail_is_an_error(tmp_path, tiny_config) -> None:
    tiny_config.model.backbone.name = "resnet50"  # and no weights
    with pytest.raises(UserError, match=r"all 2 runs failed\. trained_3: no weights"):
        experiment.run_experiment("finetune", tmp_path / "new", Settings(tiny_config))
    assert "not run: no weights" in (tmp_path / "new/finetune.md").read_text()
