"""Kills training (SIGKILL) at random moments until it has ended, and compares it with a run that was left alone.

python -m tests.reliability.kill [--kills=200] [--seed=0]

Weights, moving average, optimizer and metrics have to be the same, bit by bit (but for times). A run is killed up to
five times, then left to end; runs are made until there were that many kills. Status 1 if one ends differently.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cervix_jax import runs
from cervix_jax.images import synthetic
from cervix_jax.training.checkpoints import Checkpoints

CLOCK = ("images_per_second", "validation_seconds")
OPTIONS = {
    **{"epochs": 4, "batch_size": 16, "dataset.name": "cervix/initial", "dataset.image_size": "(32,24)"},
    **{"model.backbone.name": "none", "model.widths": "(4,)", "model.blocks": "(1,)", "optimizer.ema_decay": 0.9},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write_folder(folder / "photographs", seed=3, counts={"train": 60, "additional": 0, "test": 7})
        finish(folder, folder / "first")  # which prepares and compiles
        start = time.monotonic()
        finish(folder, folder / "alone")
        seconds = time.monotonic() - start
        expected, kills, ended, differing = end_of(folder / "alone"), 0, 0, 0
        while kills < arguments.kills:
            workdir = folder / f"run{ended}"
            for _ in range(min(5, arguments.kills - kills)):
                process = start_training(folder, workdir)
                try:
                    process.wait(draw.uniform(0.2, 1.0) * seconds)
                    break  # it ended first
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
            finish(folder, workdir)
            is_same = end_of(workdir) == expected
            ended, differing = ended + 1, differing + (not is_same)
            print(f"{kills} kills, {ended} runs, {differing} ended differently", flush=True)
            shutil.rmtree(workdir)
    sys.exit(min(differing, 1))


def start_training(folder: Path, workdir: Path) -> subprocess.Popen[bytes]:
    options = OPTIONS | {"dataset.manual_dir": folder / "photographs", "dataset.data_dir": folder / "data"}
    flags = [f"--config.{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "cervix_jax.train", "--config=configs/report.py", *flags, f"--workdir={workdir}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])


def finish(folder: Path, workdir: Path) -> None:
    process = start_training(folder, workdir)
    _, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"training does not go on: {err.decode()}")


def end_of(workdir: Path) -> str:
    """Metrics, and the checksums of all that the checkpoints hold, which name every array's content."""
    rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in runs.read_metrics(workdir)]
    with Checkpoints.open(workdir) as checkpoints:
        saved = {step: checkpoints.checksums(step) for step in checkpoints.steps}
    return json.dumps([rows, saved], sort_keys=True)


if __name__ == "__main__":
    main()
