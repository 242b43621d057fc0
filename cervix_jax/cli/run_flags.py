"""Flags of the programs that use trained runs, and the predictor and data that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from cervix_jax.datasets.pipeline import Examples
    from cervix_jax.inference.calibration import Calibration
    from cervix_jax.inference.labelled import LabelledPhotographs
    from cervix_jax.inference.predictor import Predictor
    from cervix_jax.training.localiser import Localiser

WORKDIR = flags.DEFINE_multi_string(
    "workdir", None, "Work directory of a run or of a cross-validation; several are an ensemble.", required=True
)
COMBINE = flags.DEFINE_enum(
    "combine",
    None,
    ["report", "mean", "geometric"],
    "Mean over runs: weighted by 0.95 - validation loss (report section 12), plain, or geometric. By default 'report', "
    "of a cross-validation 'mean'.",
)
TTA = flags.DEFINE_list("tta", [], "Test-time augmentation to average over: flips, crops, or both: flips,crops.")
WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["raw", "ema"],
    "Parameters as trained, or their moving average; that by default, where kept.",
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Photographs per step.", lower_bound=1)


def define_site_flag() -> None:
    """`--site`, by which `restore` finds the calibration of a site."""
    flags.DEFINE_string("site", None, "Use the calibration that `calibrate --images --site=NAME` made for a site.")


def restore(*, workdirs: Sequence[str] | None = None, calibrated: bool = False) -> Predictor:
    """The predictor that the flags name.

    Args:
      workdirs: in place of those of `--workdir`.
      calibrated: with the calibration that was made for these flags, if there is one; that of `--site`, where given.
    """
    from cervix_jax.inference.predictor import Predictor

    return Predictor.restore(
        [Path(workdir) for workdir in workdirs or WORKDIR.value],
        rule=COMBINE.value,
        augmentations=TTA.value,
        weights=WEIGHTS.value,
        calibrated=calibrated,
        site=flags.FLAGS.site if calibrated and "site" in flags.FLAGS else None,
    )


def restore_localisers() -> list[Localiser]:
    """The localisers that `--workdir` names, those of all folds of a cross-validation; none if it names classifiers."""
    from cervix_jax.runs import member_workdirs, read_record
    from cervix_jax.training.localiser import Localiser

    workdirs = [run for name in WORKDIR.value for run in member_workdirs(Path(name))]
    if read_record(workdirs[0])["config"].get("task") != "localise":
        return []
    return [Localiser.restore(workdir) for workdir in workdirs]


def restore_localiser() -> Localiser | None:
    """The one localiser that `--workdir` names; None if it names classifiers.

    Raises:
      RunError: it names several localisers.
    """
    from cervix_jax.runs import RunError

    localisers = restore_localisers()
    if len(localisers) > 1:
        raise RunError(f"{WORKDIR.value[0]} is one of several localisers; only predict takes them together")
    return localisers[0] if localisers else None


def localiser_split(localiser: Localiser, split: str) -> Examples:
    """The photographs of a split of a localiser's own data that have boxes."""
    from cervix_jax.datasets.dataset import load_dataset

    data = load_dataset(localiser.config, flags.FLAGS.manual_dir, flags.FLAGS.data_dir)
    localiser.check_data(data.fingerprint)
    return data.examples(split)


def define_data_flags() -> None:
    """Flags that say where the runs' data is, for `labelled_split`."""
    flags.DEFINE_string("manual_dir", None, "Raw photographs, if they have moved since training.")
    flags.DEFINE_string("data_dir", None, "Root of prepared data sets, if it has moved since training.")


def labelled_split(predictor: Predictor, split: str) -> LabelledPhotographs:
    """The photographs of a split of the runs' own data; of a cross-validation all photographs validate.

    Raises:
      RunError: the data are others than those that the runs were trained on, or not those of one split.
    """
    from cervix_jax.datasets.dataset import PreparedDataset, load_dataset
    from cervix_jax.inference.labelled import split_photographs
    from cervix_jax.training.processes import lead_host_first

    def load(config: ConfigDict) -> PreparedDataset:
        return lead_host_first(lambda: load_dataset(config, flags.FLAGS.manual_dir, flags.FLAGS.data_dir))

    return split_photographs(predictor, load, split)


def calibrate(predictor: Predictor) -> Calibration:
    """Calibrates a predictor on its validation photographs; keeps the calibration, and their embeddings, with its runs.

    Raises:
      Others: see `labelled_split` and `calibration.calibrate`.
    """
    from cervix_jax.inference import calibration

    cases = labelled_split(predictor, "validation")
    probabilities = cases.probabilities(predictor, BATCH_SIZE.value)
    fitted = calibration.calibrate(probabilities, cases.labels, cases.ids, cases.groups, cases.folds)
    fitted.save(predictor.calibration_path, predictor.identity)
    cases.save_embeddings(predictor, BATCH_SIZE.value)
    return fitted
