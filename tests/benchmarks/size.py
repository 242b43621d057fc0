"""Time and memory of `prepare` and of one epoch of `train` on 1, 2, 4 and 8 times as many synthetic photographs.

    python -m tests.benchmarks.size [PHOTOGRAPHS]

Each is a whole program, in a process of its own; decoded photographs are not kept (`cache_bytes=0`), so memory should
not grow. Programs are compiled before the clock starts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cervix_jax.images import synthetic

FRACTIONS = {"train": 0.6, "additional": 0.3, "test": 0.1}
TRAINING = ["--config.epochs=1", "--config.dataset.cache_bytes=0", "--config.batch_size=16"]


def main() -> None:
    base = int(sys.argv[1]) if sys.argv[1:] else 600
    print("| photographs | prepare, s | ms each | MB | train, s | images trained | images/s | MB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "first", base)
        for factor in (1, 2, 4, 8):
            print(measure(Path(folder) / str(factor), factor * base), flush=True)


def measure(folder: Path, count: int) -> str:
    """A line of the table."""
    synthetic.write_folder(
        folder / "raw", seed=count, counts={subset: round(fraction * count) for subset, fraction in FRACTIONS.items()}
    )
    places = [f"--config.dataset.manual_dir={folder / 'raw'}", f"--config.dataset.data_dir={folder / 'data'}"]
    common = ["--config=configs/quickstart.py", "--config.dataset.name=cervix/cleaned", *places]
    _, seconds, memory = run("prepare", *common)
    result, training, training_memory = run("train", *common, *TRAINING, f"--workdir={folder / 'run'}")
    metrics = json.loads((folder / "run" / "metrics.jsonl").read_text())
    figures = [
        f"{count:,}",
        f"{seconds:.1f}",
        f"{1e3 * seconds / count:.1f}",
        f"{memory / 1e6:.0f}",
        f"{training:.1f}",
        f"{16 * metrics['step']:,}",
        f"{result['images_per_second']:.0f}",
        f"{training_memory / 1e6:.0f}",
    ]
    return f"| {' | '.join(figures)} |"


def run(program: str, *flags: str) -> tuple[dict, float, int]:
    """The JSON that a program prints last, its seconds, and the bytes of its largest process."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"cervix_jax.{program}", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, program
    return json.loads(output.splitlines()[-1]), time.monotonic() - began, 1024 * usage.ru_maxrss


if __name__ == "__main__":
    main()
