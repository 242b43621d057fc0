"""Programs started as users start them."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = {
    "epochs": 2,
    "batch_size": 16,
    "dataset.name": "cervix/initial",
    "dataset.image_size": "(32,24)",
    "model.backbone.name": "none",
    "model.widths": "(4,)",
    "model.blocks": "(1,)",
}


def start(program, *arguments, **options):
    command = [sys.executable, "-m", f"cervix_jax.{program}", *map(str, arguments)]
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        **{"cwd": ROOT} | options,
    )


def call(program, *arguments):
    process = start(program, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def result(program, *arguments):
    status, out, err = call(program, *arguments)
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def run_flags(manual_dir, data_dir):
    places = {"dataset.manual_dir": manual_dir, "dataset.data_dir": data_dir}
    return ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in (TINY | places).items())]
