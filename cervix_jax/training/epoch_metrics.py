"""Reads and prints rows of `metrics.jsonl`, which the training loop writes, one per epoch.

The metrics of a task are `loss` and one more, `accuracy` or `mean_iou`. In a row they have the prefix `train_`,
`validation_` or, of the moving average if one is kept, `ema_validation_`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def best(rows: Sequence[Row], prefix: str = "") -> dict[str, Any]:
    """`epoch` and metrics of the epoch with the lowest validation loss.

    Args:
      rows: one or more.
      prefix: 'ema_' for the moving average.
    """
    row = min(rows, key=lambda row: _loss(row, prefix))
    return {"epoch": row["epoch"]} | _metrics(row, f"{prefix}validation_")


def is_over(rows: Sequence[Row], epochs: int, patience: int) -> bool:
    """Whether training ends after these epochs.

    Args:
      rows: of all epochs so far.
      epochs: `config.epochs`.
      patience: `config.patience`: epochs without a lower validation loss, of the moving average if one is kept; 0: any.
    """
    if not rows:
        return False
    last, prefix = rows[-1], "ema_" if "ema_validation_loss" in rows[-1] else ""
    return last["epoch"] >= epochs or (patience > 0 and last["epoch"] - best(rows, prefix)["epoch"] >= patience)


def validation(row: Row) -> dict[str, float]:
    """Validation metrics, those of the moving average with the prefix `ema_`; checkpoints are compared by these."""
    averaged = {f"ema_{name}": x for name, x in _metrics(row, "ema_validation_").items()}
    return _metrics(row, "validation_") | averaged


def format_row(row: Row, epochs: int) -> str:
    """One line for the log."""
    train, validated, averaged = (_metrics(row, prefix) for prefix in ("train_", "validation_", "ema_validation_"))
    (name,) = train.keys() - {"loss"}
    words = name.replace("_", " ")
    columns = [
        f"epoch {row['epoch']}/{epochs}",
        f"train loss {train['loss']:.4f} {words} {train[name]:.3f}",
        f"validation loss {validated['loss']:.4f} {words} {validated[name]:.3f}",
    ]
    if averaged:
        columns.append(f"averaged {averaged['loss']:.4f} {averaged[name]:.3f}")
    columns.append(f"{row['images_per_second']:.1f} images/s" if row["images_per_second"] else "")
    return "  ".join(columns)


def _loss(row: Row, prefix: str) -> float:
    """The validation loss; infinite where the row has none, or one that is not a number and compares with nothing."""
    loss = row.get(f"{prefix}validation_loss")
    return math.inf if loss is None or math.isnan(loss) else loss


def _metrics(row: Row, prefix: str) -> dict[str, float]:
    """Those of a prefix, without it; `validation_seconds` is none."""
    return {
        name.removeprefix(prefix): x for name, x in row.items() if name.startswith(prefix) and "seconds" not in name
    }
