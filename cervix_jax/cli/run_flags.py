"""Flags of the programs that use trained runs, and the predictor and data that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from cervix_jax.datasets.pipeline import Examples
    from cervix_jax.inference.labelled import LabelledPhotographs
    from cervix_jax.inference.predictor import Predictor
    from cervix_jax.training.localiser import Localiser

WORKDIR = flags.DEFINE_multi_string("workdir", None, "Work directory of a run; several are an ensemble.", required=True)
COMBINE = flags.DEFINE_enum(
    "combine",
    "report",
    ["report", "mean", "geometric"],
    "Mean over runs: weighted by 0.95 - validation loss (report section 12), plain, or geometric.",
)
TTA = flags.DEFINE_list("tta", [], "Test-time augmentation to average over: flips, crops, or both: flips,crops.")
WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["raw", "ema"],
    "Parameters as trained, or their moving average; that by default, where kept.",
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Photographs per step.", lower_bound=1)


def restore(*, calibrated: bool = False) -> Predictor:
    """The predictor that the flags name, with the calibration that was made for them, if asked for and there is one."""
    from cervix_jax.inference.predictor import Predictor

    return Predictor.restore(
        [Path(workdir) for workdir in WORKDIR.value],
        rule=COMBINE.value,
        augmentations=TTA.value,
        weights=WEIGHTS.value,
        calibrated=calibrated,
    )


def restore_localiser() -> Localiser | None:
    """The localiser that `--workdir` names; None if it is a classifier, or several."""
    from cervix_jax.runs import read_record
    from cervix_jax.training.localiser import Localiser

    workdir = Path(WORKDIR.value[0])
    if len(WORKDIR.value) > 1 or read_record(workdir)["config"].get("task") != "localise":
        return None
    return Localiser.restore(workdir)


def localiser_split(localiser: Localiser, split: str) -> Examples:
    """The photographs of a split of a localiser's own data that have boxes."""
    from cervix_jax.datasets.dataset import load_dataset
    from cervix_jax.runs import RunError

    data = load_dataset(localiser.config, flags.FLAGS.manual_dir, flags.FLAGS.data_dir)
    if data.fingerprint != localiser.record["data_fingerprint"]:
        raise RunError("the localiser was trained on other photographs than the prepared data set holds")
    return data.examples(split)


def define_data_flags() -> None:
    """Flags that say where the runs' data is, for `labelled_split`."""
    flags.DEFINE_string("manual_dir", None, "Raw photographs, if they have moved since training.")
    flags.DEFINE_string("data_dir", None, "Root of prepared data sets, if it has moved since training.")


def labelled_split(predictor: Predictor, split: str) -> LabelledPhotographs:
    """The photographs of a split of the runs' own data."""
    from cervix_jax.datasets.dataset import PreparedDataset, load_dataset
    from cervix_jax.inference.labelled import split_photographs
    from cervix_jax.training.processes import lead_host_first

    def prepare() -> PreparedDataset:
        return load_dataset(predictor.data_config, flags.FLAGS.manual_dir, flags.FLAGS.data_dir)

    data = lead_host_first(prepare)
    predictor.check_data(data.fingerprint)
    return split_photographs(predictor, data.examples(split), split)
