"""Whole runs, data sets and folders pass; damage of each kind is named with what to do."""

import shutil

import pytest

from cervix_jax import runs
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.workflows import verification
from cervix_jax.workflows.verification import DamageError, Report


def problems(check, *arguments) -> list[str]:
    report = Report()
    check(*arguments, report)
    assert report.checked
    return report.problems


def test_what_is_whole_passes(folds, cropped_run, manual_dir, data_dir, tiny_config) -> None:
    load_dataset(tiny_config)
    assert problems(verification.check_runs, folds.workdir) == []
    assert problems(verification.check_runs, cropped_run[0]) == []
    assert problems(verification.check_data, data_dir) == []
    assert problems(verification.check_photographs, manual_dir) == []


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("run.json", "run.json is damaged"),
        ("metrics.jsonl", "line(s) of"),
        ("quality.npz", "quality.npz is damaged"),
        ("localiser/localiser.safetensors", "cannot be read as a localiser"),
        ("checkpoints/*/variables/d/*", "checkpoints/3 is damaged"),
        ("checkpoints/*/metrics/metrics", "its validation metrics cannot be read"),
    ],
)
def test_damage_of_a_run_is_named_with_what_to_do(cropped_run, tmp_path, name, named) -> None:
    workdir = shutil.copytree(cropped_run[0], tmp_path / "run")
    for path in list(workdir.glob(name)):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = Report()
    verification.check_runs(workdir, report)
    (problem,) = report.problems
    assert named in problem
    assert "rerun the command that trained it" in problem
    with pytest.raises(DamageError, match=r"1 of .* things are damaged"):
        report.raise_if_damaged()


def test_what_is_missing_is_named(run) -> None:
    workdir = run[0]
    (workdir / runs.QUALITY_REFERENCE).unlink()
    shutil.rmtree(workdir / "checkpoints")
    assert len(found := problems(verification.check_runs, workdir)) == 2
    assert "holds no checkpoint" in found[0]
    assert "quality.npz is missing" in found[1]


def test_damaged_data_and_photographs_are_named(tiny_config, manual_dir, tmp_path) -> None:
    tiny_config.dataset.data_dir = str(tmp_path / "prepared")
    data = load_dataset(tiny_config)
    (path,) = data.builder.data_path.glob("*train*array_record*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = problems(verification.check_data, tmp_path / "prepared")
    assert "remove" in problem
    folder = shutil.copytree(manual_dir / "test", tmp_path / "photographs")
    first = min(folder.iterdir())
    first.write_bytes(first.read_bytes()[:500])
    (problem,) = problems(verification.check_photographs, folder)
    assert problem.startswith(f"{first}: truncated")
    with pytest.raises(DamageError, match="no prepared data set"):
        verification.check_data(tmp_path / "nowhere", Report())
