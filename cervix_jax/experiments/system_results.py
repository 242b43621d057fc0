"""What is kept of a system that was trained once a fold: small files from which every table and figure is drawn.

In `results/report_tables` of a work directory, or of this package for what is recorded: `SYSTEM.csv`, what the system
says of every photograph by the run of the fold that held it out (`SYSTEM.seed1.csv` for a second seed), and
`SYSTEM.json`: how each run went, the conditions, and why runs failed. No photographs, weights or work directories.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervix_jax.atomic import write_atomic
from cervix_jax.experiments.runner import VALIDATION, Run
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.runs import read_metrics, read_record

FOLDER = "results/report_tables"  # in the work directory


@dataclasses.dataclass(frozen=True)
class FoldRun:
    """How one run went, by the moving average where one was kept.

    Attributes:
      fold: that it held out.
      seed: counted from 0.
      epoch: whose metrics these are.
      loss: of validation, in nats.
      accuracy: of validation, 0 to 1.
      train_accuracy: in that epoch, with augmentation and dropout.
      curve: validation loss of each epoch.
    """

    fold: int
    seed: int
    epoch: int
    loss: float
    accuracy: float
    train_accuracy: float
    curve: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SystemResult:
    """Everything that tables need of a system.

    Attributes:
      system: its name; that of a system on the cervix ends in `runner.CROPPED`.
      tables: of the folds that are finished, one for each seed, at the epochs of least validation loss.
      runs: that are finished.
      conditions: `dataset`, `image_size`, `batch_size`, `ema_decay`, `jax` and `revision` of these.
      random_backbone: whether it started from random weights where ImageNet's were called for.
      reason: why runs failed; None if none did.
    """

    system: str
    tables: tuple[PredictionTable, ...]
    runs: tuple[FoldRun, ...]
    conditions: dict[str, Any]
    random_backbone: bool
    reason: str | None

    @classmethod
    def collect(cls, system: str, runs: Sequence[Run], workdir: Path) -> "SystemResult":
        """From the work directories of its runs.

        Args:
          system: its name.
          runs: of all folds and seeds, finished or not.
          workdir: of the experiments.
        """
        finished = [run for run in runs if run.reason is None and (workdir / run.folder / VALIDATION).exists()]
        seeds = sorted({run.seed for run in finished})
        tables = {
            seed: [PredictionTable.read(workdir / run.folder / VALIDATION) for run in finished if run.seed == seed]
            for seed in seeds
        }
        reasons = dict.fromkeys(run.reason for run in runs if run.reason)
        return cls(
            system=system,
            tables=tuple(PredictionTable.concatenate(tables[seed]) for seed in seeds),
            runs=tuple(_fold_run(run, workdir / run.folder) for run in finished),
            conditions=_conditions(workdir / finished[0].folder) if finished else {},
            random_backbone=any(run.random_backbone for run in runs),
            reason="; ".join(reasons) or None,
        )

    def write(self, folder: Path) -> None:
        """Writes the files of the system, made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for seed, table in enumerate(self.tables):
            table.write(folder / _table_name(self.system, seed))
        fields = dataclasses.asdict(dataclasses.replace(self, tables=()))
        write_atomic(folder / f"{self.system}.json", json.dumps(fields | {"tables": len(self.tables)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path, system: str) -> "SystemResult | None":
        """Reads what `write` wrote; None if there is nothing of this system.

        Raises:
          TableError: a table is damaged.
        """
        path = folder / f"{system}.json"
        if not path.exists():
            return None
        fields = json.loads(path.read_text())
        tables = [PredictionTable.read(folder / _table_name(system, seed)) for seed in range(fields["tables"])]
        runs = tuple(FoldRun(**run | {"curve": tuple(run["curve"])}) for run in fields["runs"])
        return cls(**fields | {"tables": tuple(tables), "runs": runs})

    def losses(self, seed: int) -> dict[int, float]:
        """Validation loss of each fold's run."""
        return {run.fold: run.loss for run in self.runs if run.seed == seed}


def _table_name(system: str, seed: int) -> str:
    return f"{system}.seed{seed}.csv" if seed else f"{system}.csv"


def _fold_run(run: Run, folder: Path) -> FoldRun:
    rows = read_metrics(folder)
    prefix = "ema_validation" if "ema_validation_loss" in rows[-1] else "validation"
    is_last = run.variant.reported_epoch == "last"
    row = rows[-1] if is_last else min(rows, key=lambda row: row[f"{prefix}_loss"])
    scores = {name: row[f"{prefix}_{name}"] for name in ("loss", "accuracy")}
    curve = tuple(round(float(row[f"{prefix}_loss"]), 5) for row in rows)
    return FoldRun(run.fold, run.seed, row["epoch"], **scores, train_accuracy=row["train_accuracy"], curve=curve)


def _conditions(folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    config = record["config"]
    commit, *dirty = (record.get("revision") or "unknown").split("-")
    return {
        "dataset": config["dataset"]["name"],
        "image_size": list(config["dataset"]["image_size"]),
        "batch_size": config["batch_size"],
        "ema_decay": config["optimizer"]["ema_decay"],
        "jax": record["versions"]["jax"],
        "revision": "-".join([commit[:12], *dirty]),
    }


def scores(tables: Sequence[PredictionTable]) -> tuple[PredictionTable, np.ndarray]:
    """Loss in nats and whether the type was right [n 2] of each photograph of the first table, means over seeds."""
    first = tables[0]
    values = []
    for table in tables:
        aligned = table.take(first.ids)
        true = aligned.probabilities[np.arange(len(first.ids)), aligned.labels]
        right = aligned.probabilities.argmax(axis=1) == aligned.labels
        values.append(np.column_stack([-np.log(np.clip(true, 1e-15, 1)), right]))
    return first, np.mean(values, axis=0)
