"""Reads and prints rows of `metrics.jsonl`, which the training loop writes, one per epoch.

The validation metrics of the weights are `validation_loss` and `validation_accuracy`; those of their moving average, if
one is kept, have the prefix `ema_`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def best(rows: Sequence[Row], prefix: str = "") -> dict[str, Any]:
    """`epoch`, `loss` and `accuracy` of the epoch with the lowest validation loss.

    Args:
      rows: one or more.
      prefix: 'ema_' for the moving average.
    """
    row = min(rows, key=lambda row: row[f"{prefix}validation_loss"])
    return {"epoch": row["epoch"]} | {name: row[f"{prefix}validation_{name}"] for name in ("loss", "accuracy")}


def validation(row: Row) -> dict[str, float]:
    """`loss` and `accuracy`, and `ema_loss` and `ema_accuracy`, if there are any; checkpoints are compared by these."""
    suffixes = ("validation_loss", "validation_accuracy")
    return {name.replace("validation_", ""): x for name, x in row.items() if name.endswith(suffixes)}


def format_row(row: Row, epochs: int) -> str:
    """One line for the log."""
    averaged = speed = ""
    if "ema_validation_loss" in row:
        averaged = f"averaged {row['ema_validation_loss']:.4f} {row['ema_validation_accuracy']:.3f}  "
    if row["images_per_second"]:
        speed = f"{row['images_per_second']:.1f} images/s"
    return (
        f"epoch {row['epoch']}/{epochs}  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.3f}  "
        f"validation loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.3f}  "
        f"{averaged}{speed}"
    )
