"""What programs that use trained runs share: the flags that name runs, and the predictor that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from cervix_jax.inference.predictor import Predictor

WORKDIR = flags.DEFINE_multi_string("workdir", None, "Folder of a run; several are an ensemble.", required=True)
COMBINE = flags.DEFINE_enum(
    "combine",
    "report",
    ["report", "mean", "geometric"],
    "Mean over runs: weighted by 0.95 - validation loss (report section 12), plain, or geometric.",
)
TTA = flags.DEFINE_list("tta", [], "Test-time augmentation to average over: flips, crops, or both: flips,crops.")
WEIGHTS = flags.DEFINE_enum(
    "weights", None, ["raw", "ema"], "Parameters as trained, or their moving average; that, if not given, where kept."
)


def restore() -> Predictor:
    """The predictor that the flags name, uncalibrated."""
    from cervix_jax.inference.predictor import Predictor

    workdirs = [Path(workdir) for workdir in WORKDIR.value]
    return Predictor.restore(workdirs, rule=COMBINE.value, augmentations=TTA.value, weights=WEIGHTS.value)
