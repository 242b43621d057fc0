"""Two systems on the photographs that both hold out: paired differences, with intervals that can decide.

Pairing removes what makes photographs differ from each other, so that the interval of a difference is much narrower
than those of the two numbers.
"""

from typing import Any

import numpy as np

from cervix_jax.datasets.cases import unite
from cervix_jax.inference.bootstrap import PERCENTILES, group_samples
from cervix_jax.inference.clinical_metrics import none_if_nan, scalar_metrics
from cervix_jax.inference.prediction_table import PredictionTable, TableError

RESAMPLES = 1000
LESS_IS_BETTER = frozenset({"loss", "brier", "ece", "aurc", "unsafe_rate", "1_called_3", "3_called_1"})


def compare(first: PredictionTable, second: PredictionTable) -> dict[str, Any]:
    """Every metric of `scalar_metrics` of two systems, and the second less the first.

    Args:
      first: what one system says.
      second: what the other says, of some of the same photographs at least.

    Returns:
      `num_examples`: photographs that both hold out; `metrics`: by name `first`, `second`, `difference`, its 95 %
      `interval` (bootstrap over photographs, the same samples for both; those that either table has in one group are
      drawn together, and there is none for a single group), and `verdict` on the second: 'better' or 'worse' if the
      interval is on one side of 0, else 'cannot tell'; `conclusion`: 'better' if it is so in `loss` and in neither of
      `kappa` and `unsafe_rate` worse, else 'no better'.

    Raises:
      TableError: they have no photograph in common, or differ in types or labels.
    """
    if first.class_names != second.class_names:
        raise TableError(f"the systems tell apart {first.class_names} and {second.class_names}")
    others = set(second.ids)
    ids = [name for name in first.ids if name in others]
    if not ids:
        raise TableError("the systems hold out no photograph in common: train them with the same config.selection.fold")
    first, second = first.take(ids), second.take(ids)
    if differing := [name for i, name in enumerate(ids) if first.labels[i] != second.labels[i]]:
        raise TableError(f"{len(differing)} photographs have other types in one system, such as {differing[0]}")
    groups = unite(first.groups, ids, dict(zip(ids, map(str, second.groups), strict=True)))
    samples = list(group_samples(groups, RESAMPLES))
    values = [_values(table, samples) for table in (first, second)]
    point, drawn = values[1][0] - values[0][0], values[1][1] - values[0][1]
    names = list(_scalars(first, np.arange(len(ids))))
    metrics = {}
    for i, name in enumerate(names):
        defined = drawn[:, i][~np.isnan(drawn[:, i])]
        is_varied = len(defined) > 0 and len(np.unique(groups)) > 1  # else every sample is the same
        interval = np.percentile(defined, PERCENTILES).tolist() if is_varied else None
        metrics[name] = {
            "first": none_if_nan(values[0][0][i]),
            "second": none_if_nan(values[1][0][i]),
            "difference": none_if_nan(point[i]),
            "interval": interval,
            "verdict": _verdict(name, interval),
        }
    harms = any(metrics[name]["verdict"] == "worse" for name in ("kappa", "unsafe_rate") if name in metrics)
    conclusion = "better" if metrics["loss"]["verdict"] == "better" and not harms else "no better"
    return {"num_examples": len(ids), "conclusion": conclusion, "metrics": metrics}


def _verdict(name: str, interval: list[float] | None) -> str:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "cannot tell"
    return "better" if (interval[1] < 0) == (name in LESS_IS_BETTER) else "worse"


def _scalars(table: PredictionTable, rows: np.ndarray) -> dict[str, float]:
    p = table.probabilities[rows]
    return scalar_metrics(p, table.labels[rows], table.class_names, p.argmax(axis=1))


def _values(table: PredictionTable, samples: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Every metric of a table, and of samples of its rows [resamples metrics]."""
    everything = np.arange(len(table.ids))
    point = np.array(list(_scalars(table, everything).values()), float)
    return point, np.array([list(_scalars(table, rows).values()) for rows in samples], float)
