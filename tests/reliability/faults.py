"""Flips a bit in every file that a run and its data have, one at a time: is it found, harmless, or a wrong number?

python -m tests.reliability.faults [--flips=3] [--seed=0]

Trains a small run on synthetic photographs, cropped by a small localiser. For each flip the run predicts some
photographs, and the data set is read: 'found' if that is an error, 'harmless' if nothing changes, 'WRONG' if something
does and nobody says so, which also is the status. Files that `check` alone finds are counted too.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np

from cervix_jax import config as options
from cervix_jax import progress
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.images import synthetic
from cervix_jax.inference.decisions import DecisionRule, predict
from cervix_jax.inference.predictor import Predictor
from cervix_jax.training import loop
from cervix_jax.workflows import verification
from tests.conftest import make_localiser_config, make_tiny_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=3, help="flips per file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    progress.silence()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workdir, config = make_run(folder)
        files = [path for path in sorted(workdir.rglob("*")) if path.is_file() and path.stat().st_size]
        print("| file | found | harmless | WRONG | by check |\n|---|---|---|---|---|")
        wrong = 0
        for place, paths, use, check in (
            ("run", files, lambda: use_run(workdir, folder), lambda report: verification.check_runs(workdir, report)),
            (
                "data",
                data_files(folder),
                lambda: use_data(config),
                lambda report: verification.check_data(folder / "data", report),
            ),
        ):
            expected = use()
            rows: dict[str, list[int]] = {}
            for path in paths:
                row = rows.setdefault(kind(path, folder), [0, 0, 0, 0])
                for _ in range(arguments.flips):
                    content = path.read_bytes()
                    path.write_bytes(flipped(content, rng))
                    row[outcome(use, expected)] += 1
                    report = verification.Report()
                    check(report)
                    row[3] += bool(report.problems)
                    path.write_bytes(content)
            for which, row in rows.items():
                print(f"| {place}: {which} | " + " | ".join(map(str, row)) + " |", flush=True)
                wrong += row[2]
    sys.exit(min(wrong, 1))


def make_run(folder: Path):
    """A run of two epochs with its own localiser; its work directory and config."""
    synthetic.write_folder(folder / "photographs", seed=3, counts={"train": 60, "additional": 0, "test": 7})
    loop.train(make_localiser_config(folder / "photographs", folder / "data"), folder / "localiser")
    config = make_tiny_config(folder / "photographs", folder / "data")
    config.dataset.crop = str(folder / "localiser")
    config.optimizer.ema_decay = 0.9
    loop.train(config, folder / "run")
    config = options.with_absolute_paths(config)
    config.dataset.manual_dir = None  # so that the data set alone is read
    return folder / "run", config


def use_run(workdir: Path, folder: Path) -> list[str]:
    """What the run says of the test photographs, retakes and boxes included."""
    predictor = Predictor.restore([workdir])
    paths = sorted((folder / "photographs/test").iterdir())
    photographs = [predictor.read(path, with_features=True) for path in paths]
    return [repr(p) for p in predict(predictor, DecisionRule(), [path.name for path in paths], photographs, 8)]


def use_data(config) -> list[str]:
    """Names, labels and stored pictures of every split."""
    data = load_dataset(config)
    rows = []
    for split in data.splits:
        examples = data.examples(split)
        pictures = [hashlib.sha256(examples.image(i).tobytes()).hexdigest() for i in range(len(examples))]
        rows += [f"{split} {row}" for row in zip(examples.ids, examples.labels.tolist(), pictures, strict=True)]
    return sorted(rows)


def data_files(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / "data/cervix").rglob("*")) if path.is_file() and path.stat().st_size]


def kind(path: Path, folder: Path) -> str:
    """The file's place, without numbers and hashes."""
    parts = path.relative_to(folder).parts[1:]
    return "/".join(
        "*" if any(c.isdigit() for c in part) and not part.endswith((".json", ".npz")) else part for part in parts[:3]
    )


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def outcome(use, expected) -> int:
    """0: found, 1: harmless, 2: a wrong number in silence."""
    try:
        return 1 if use() == expected else 2
    except Exception:
        return 0


if __name__ == "__main__":
    main()
