"""Trains 50 epochs and predicts 100,000 photographs: do memory, open files and threads stay what they were?

python -m tests.reliability.soak [--epochs=50] [--predictions=100000] [--output=tests/reliability/soak.png]

A small network on synthetic photographs. Samples after each epoch and each thousand predictions; the first fifth of
either is a warm-up. Status 1 if between the second fifth and the last the median of memory grows by more than GROWTH,
or that of files or threads by more than NOISE.
"""

import argparse
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cervix_jax import progress
from cervix_jax.images import synthetic
from cervix_jax.inference.predictor import Predictor
from cervix_jax.training import loop
from tests.conftest import make_tiny_config

GROWTH = 16.0  # megabytes
NOISE = 2  # files and threads that come and go with checkpoints
NAMES = ("memory (MB)", "open files", "threads")
BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("soak.png"))
    arguments = parser.parse_args()
    progress.silence()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write_folder(folder / "photographs", seed=3, counts={"train": 60, "additional": 0, "test": 40})
        samples = {
            f"{arguments.epochs} epochs": train(folder, arguments.epochs),
            f"{arguments.predictions:,} predictions": predict(folder, arguments.predictions),
        }
    plot(samples, arguments.output)
    grown = [line for job, rows in samples.items() for line in growth(job, rows)]
    print("\n".join([f"{job}: {describe(rows)}" for job, rows in samples.items()] + grown))
    sys.exit(min(len(grown), 1))


def train(folder: Path, epochs: int) -> np.ndarray:
    config = make_tiny_config(folder / "photographs", folder / "data")
    config.epochs, config.optimizer.ema_decay = epochs, 0.9
    rows: list[tuple[float, int, int]] = []
    loop.train(config, folder / "run", on_step=lambda step: rows.append(sample()))
    return np.array(rows)[:: max(1, len(rows) // epochs)]


def predict(folder: Path, number: int) -> np.ndarray:
    """Every photograph is read from its file each time."""
    paths = sorted((folder / "photographs").rglob("*.jpg"))[:BATCH]
    for path in paths:  # so that decoding does not take all of the time
        Image.open(path).resize((48, 64)).save(path)
    predictor, rows = Predictor.restore([folder / "run"]), []
    for done in range(0, number, BATCH):
        probabilities = predictor.probabilities([predictor.read(path) for path in paths], BATCH)
        assert np.isfinite(probabilities).all()
        if done % 1000 == 0:
            rows.append(sample())
    return np.array(rows)


def sample() -> tuple[float, int, int]:
    """Resident memory in megabytes, open files, threads of all kinds."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    files = len(list(Path("/proc/self/fd").iterdir()))
    return int(status["VmRSS"].split()[0]) / 1024, files, max(int(status["Threads"]), threading.active_count())


def medians(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the second fifth and of the last."""
    fifth = len(rows) // 5
    return np.median(rows[fifth : 2 * fifth], axis=0), np.median(rows[-fifth:], axis=0)


def growth(job: str, rows: np.ndarray) -> list[str]:
    before, after = medians(rows)
    limits = (GROWTH, NOISE, NOISE)
    return [
        f"{job}: {name} grew from {b:.0f} to {a:.0f}"
        for name, b, a, limit in zip(NAMES, before, after, limits, strict=True)
        if a - b > limit
    ]


def describe(rows: np.ndarray) -> str:
    before, after = medians(rows)
    return ", ".join(f"{name} {b:.0f} to {a:.0f}" for name, b, a in zip(NAMES, before, after, strict=True))


def plot(samples: dict[str, np.ndarray], path: Path) -> None:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots(len(NAMES), len(samples), sharex="col", squeeze=False)
    for column, (job, rows) in enumerate(samples.items()):
        for row, name in enumerate(NAMES):
            place = axes[row][column]
            place.plot(np.linspace(0, 100, len(rows)), rows[:, row], color="black", linewidth=1)
            place.set_ylim(0, 1.2 * rows[:, row].max())
            place.axvspan(0, 20, color="0.9")
            if column == 0:
                place.set_ylabel(name)
        axes[0][column].set_title(job)
        axes[-1][column].set_xlabel("% done (grey: warm-up)")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
