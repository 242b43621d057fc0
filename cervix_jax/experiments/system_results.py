"""What is kept of a system that was trained once a fold: small files from which every table and figure is drawn.

In `results/report_tables` of a work directory, or of this package for what is recorded: `SYSTEM.csv`, what the system
says of every photograph by the run of the fold that held it out (`SYSTEM.seed1.csv` for a second seed), and
`SYSTEM.json`: how each run went, the conditions, and why runs failed. No photographs, weights or work directories.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervix_jax.atomic import write_atomic
from cervix_jax.experiments.runner import VALIDATION, Run
from cervix_jax.inference.prediction_table import PredictionTable, TableError
from cervix_jax.runs import read_metrics, read_record
from cervix_jax.training import epoch_metrics

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
      train_accuracy: in that epoch, with augmentation and dropout; None where it was lost.
      curve: validation loss of each epoch.
    """

    fold: int
    seed: int
    epoch: int
    loss: float
    accuracy: float
    train_accuracy: float | None
    curve: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SystemResult:
    """Everything that tables need of a system.

    Attributes:
      system: its name; that of a system on the cervix ends in `runner.CROPPED`.
      tables: by seed, of the folds that are finished, at the epochs of least validation loss.
      runs: that are finished.
      conditions: `dataset`, `image_size`, `batch_size`, `ema_decay`, `jax` and `revision` of these.
      random_backbone: whether it started from random weights where ImageNet's were called for.
      reason: why runs failed; None if none did.
    """

    system: str
    tables: Mapping[int, PredictionTable]
    runs: tuple[FoldRun, ...]
    conditions: dict[str, Any]
    random_backbone: bool
    reason: str | None

    @classmethod
    def collect(cls, system: str, runs: Sequence[Run], workdir: Path) -> "SystemResult":
        """From the work directories of its runs.

        Args:
          system: its name.
          runs: that are finished, or failed.
          workdir: of the experiments.
        """
        finished = [run for run in runs if run.reason is None]
        tables = {
            seed: [PredictionTable.read(workdir / run.folder / VALIDATION) for run in finished if run.seed == seed]
            for seed in sorted({run.seed for run in finished})
        }
        reasons = dict.fromkeys(run.reason for run in runs if run.reason)
        return cls(
            system=system,
            tables={seed: PredictionTable.concatenate(of_folds) for seed, of_folds in tables.items()},
            runs=tuple(_fold_run(run, workdir / run.folder) for run in finished),
            conditions=_conditions(workdir / finished[0].folder) if finished else {},
            random_backbone=any(run.random_backbone for run in runs),
            reason="; ".join(reasons) or None,
        )

    def write(self, folder: Path) -> None:
        """Writes the files of the system, made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for seed, table in self.tables.items():
            table.write(folder / _table_name(self.system, seed))
        fields = dataclasses.asdict(dataclasses.replace(self, tables={}))
        del fields["tables"]
        write_atomic(folder / f"{self.system}.json", json.dumps(fields, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path, system: str) -> "SystemResult | None":
        """Reads what `write` wrote; None if there is nothing of this system.

        Raises:
          TableError: a file is damaged.
        """
        path = folder / f"{system}.json"
        if not path.exists():
            return None
        try:
            fields = json.loads(path.read_text())
            runs = tuple(FoldRun(**run | {"curve": tuple(run["curve"])}) for run in fields["runs"])
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path} is damaged: rerun its experiment, which writes it again") from error
        seeds = sorted({run.seed for run in runs})
        tables = {seed: PredictionTable.read(folder / _table_name(system, seed)) for seed in seeds}
        return cls(**fields | {"tables": tables, "runs": runs})

    def losses(self, seed: int) -> dict[int, float]:
        """Validation loss of each fold's run."""
        return {run.fold: run.loss for run in self.runs if run.seed == seed}


def _table_name(system: str, seed: int) -> str:
    return f"{system}.seed{seed}.csv" if seed else f"{system}.csv"


def _fold_run(run: Run, folder: Path) -> FoldRun:
    rows = read_metrics(folder)
    prefix = "ema_" if "ema_validation_loss" in rows[-1] else ""
    best = epoch_metrics.best(rows[-1:] if run.variant.reported_epoch == "last" else rows, prefix)
    train_accuracy = next(row["train_accuracy"] for row in rows if row["epoch"] == best["epoch"])
    curve = tuple(round(float(row[f"{prefix}validation_loss"]), 5) for row in rows)
    return FoldRun(run.fold, run.seed, **best, train_accuracy=train_accuracy, curve=curve)


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
    """Loss in nats and whether the type was right, of each photograph that all tables have, as means over the tables.

    Returns:
      The rows of these photographs in the first table, and the values [n 2].
    """
    ids = common_ids(tables)
    values = []
    for table in tables:
        aligned = table.take(ids)
        true = aligned.probabilities[np.arange(len(ids)), aligned.labels]
        right = aligned.probabilities.argmax(axis=1) == aligned.labels
        values.append(np.column_stack([-np.log(np.clip(true, 1e-15, 1)), right]))
    return tables[0].take(ids), np.mean(values, axis=0)


def common_ids(tables: Sequence[PredictionTable]) -> list[str]:
    """The photographs that all tables have, in the order of the first."""
    others = [set(table.ids) for table in tables[1:]]
    return [name for name in tables[0].ids if all(name in ids for ids in others)]
