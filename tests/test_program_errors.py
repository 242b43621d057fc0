"""What users do wrong, and what the programs say: one line, and a status."""

import subprocess
import sys

import pytest

from tests.programs import ROOT, call, run_flags

RESULTS = "cervix_jax/experiments/results/oof_best.csv"


@pytest.fixture
def flags(manual_dir, data_dir):
    return run_flags(manual_dir, data_dir)


def test_a_page_for_others_needs_a_token_and_the_extra():
    status, _, message = call("serve", "--workdir=nowhere", "--address=0.0.0.0")
    assert (status, "give them a secret: --token=" in message) == (2, True)
    code = "import runpy, sys; sys.modules['uvicorn'] = None; runpy.run_module('cervix_jax.serve', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "--workdir=x"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "error: serve needs uvicorn, which the extra brings: pip install 'cervix_jax[serve]'",
    )


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("audit", ["--manual_dir=nowhere", "--output=x"], "there is no folder nowhere"),
        ("train", ["--workdir=x"], "config"),
        ("train", ["--config=configs/report.py"], "workdir"),
        ("train", ["--config=configs/none.py", "--workdir=x"], "configs/none.py"),
        ("train", ["--config=configs/report.py", "--config.optimizer.learningrate=1", "--workdir=x"], "learning_rate"),
        ("train", ["--config=configs/report.py", "--config.epochs=many", "--workdir=x"], "many"),
        ("train", ["--config=configs/report.py", "--config.batch_size=0", "--workdir=x"], "config.batch_size is 0"),
        ("train", ["--config=configs/report.py", "--workdir=x", "stray"], "stray"),
        ("prepare", ["--config=configs/report.py", "--config.dataset.data_dir=none"], "kaggle competitions download"),
        ("evaluate", ["--workdir=nowhere"], "holds no run"),
        ("predict", ["--workdir=nowhere", "--images=.", "--output=tests"], "a file whose name ends in .csv"),
        ("predict", ["--workdir=nowhere", "--images=.", "--output=x.csv"], "holds no run"),
        ("predict", ["--workdir=x", "--images=.", f"--output={RESULTS}"], "oof_best.csv is something else than what"),
        ("predict", ["--workdir=x", "--images=.", f"--output={RESULTS}", "--overwrite"], "holds no run"),
        ("evaluate", ["--workdir=x", "--table=pyproject.toml"], "pyproject.toml is something else than what would"),
        (
            "export",
            ["--workdir=x", "--output=."],
            "README.md is something else than what would be",
        ),
        ("explain", ["--workdir=nowhere", "--images=.", "--output=x"], "holds no run"),
        ("explain", ["--workdir=nowhere", "--images=.", "--output=x", "--tta=flips"], "--tta does not apply to"),
        ("explain", ["--workdir=nowhere", "--images=.", "--output=x", "--target=class"], "margin"),
        ("reproduce", ["--experiment=crop", "--workdir=x"], "cropping"),
        ("reproduce", ["--workdir=x"], "--experiment and --workdir are needed"),
        ("reproduce", ["--experiment=depth", "--workdir=x", "--table"], "has no results of depth"),
        ("reproduce", ["--experiment=depth", "--workdir=x", "--size=64"], "--size is 64; it must be HEIGHT,WIDTH"),
    ],
)
def test_user_errors_are_printed_without_a_traceback(program, arguments, message, tmp_path):
    arguments = [a.replace("--workdir=x", f"--workdir={tmp_path}/x") for a in arguments]
    status, out, err = call(program, *arguments)
    assert status != 0
    assert message in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--config.model.backbone.name=resnet50"], "config.model.backbone.weights names no file"),
        (["--config.model.backbone.name=resnet50", "--config.model.backbone.weights=none.h5"], "none.h5"),
        (["--config.model.backbone.name=resnet50", "--config.model.backbone.cut=conv1_bm"], "conv1_bn"),
        (["--config.batch_size=64"], "there are 48 training images"),
    ],
)
def test_options_that_do_not_fit_together_are_user_errors(flags, tmp_path, extra, message):
    status, _, err = call("train", *flags, *extra, f"--workdir={tmp_path / 'run'}")
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_a_localiser_is_measured_on_a_split(localiser_run, manual_dir):
    status, _, message = call("evaluate", f"--workdir={localiser_run}", f"--images={manual_dir / 'train'}")
    assert (status, "are of classifiers" in message) == (2, True)
