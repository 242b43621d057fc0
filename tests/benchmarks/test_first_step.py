"""The program whose first line tells that a training step is done."""

import os
import subprocess
import sys
from pathlib import Path

from cervix_jax.config import flatten

ROOT = Path(__file__).parents[2]


def test_it_trains_one_step_and_leaves_nothing(tiny_config, tmp_path) -> None:
    names = ("dataset.name", "dataset.manual_dir", "dataset.data_dir", "dataset.image_size", "model.backbone.name")
    options = flatten(tiny_config) | {"model.widths": (4,), "model.blocks": (1,)}
    flags = [f"--config.{name}={options[name]}" for name in (*names, "model.widths", "model.blocks", "batch_size")]
    command = [sys.executable, "-m", "cervix_jax.benchmarks.first_step", "--config=configs/report.py", *flags]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "step 1 is done"
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("run.json"))
