"""Whether runs, data sets and photographs are what was written: everything is read, and nothing is changed."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import UserError
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import UnreadableError, find_photographs, read_bytes
from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.outliers import EmbeddingReference
from cervix_jax.inference.site_calibration import SITE_PREFIX, SiteCalibration
from cervix_jax.progress import log
from cervix_jax.runs import RunError
from cervix_jax.training.checkpoints import DAMAGED, CheckpointError, Checkpoints
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.mesh import make_mesh, replicated
from cervix_jax.training.setup import make_setup


class DamageError(UserError):
    """Something is damaged; the message names each file and what to do."""


@dataclasses.dataclass
class Report:
    """What was looked at.

    Attributes:
      checked: number of things that were read.
      problems: a line each: what is damaged, and what to do.
    """

    checked: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)

    def look(self, action: Callable[[], object], advice: str) -> bool:
        """Does what reads something; whether that is whole."""
        self.checked += 1
        try:
            action()
        except Exception as error:  # as many kinds as there are ways to damage a file
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.problems.append(f"{reason}: {advice}")
            log(self.problems[-1])
            return False
        return True

    def raise_if_damaged(self) -> None:
        """Raises DamageError if anything is."""
        if self.problems:
            lines = "\n  ".join(self.problems)
            raise DamageError(f"{len(self.problems)} of {self.checked} things are damaged:\n  {lines}")


def check_runs(workdir: Path, report: Report) -> None:
    """Checks all files of a run, or of the runs of all folds.

    Args:
      workdir: of a run or a cross-validation.
      report: what is found is added.
    """
    for run in runs.member_workdirs(workdir):
        log(f"checking {run}")
        check_trained(run, report)
        report.look(partial(EmbeddingReference.load, run, ""), "or remove it")
        for path in run.glob("calibration-*.json"):
            identity = path.stem.removeprefix("calibration-")
            report.look(partial(Calibration.load, path, identity), "or remove it")
        for path in run.glob(f"{SITE_PREFIX}*.json"):
            identity = path.stem.rpartition("-")[2]
            report.look(partial(SiteCalibration.load, path, identity), "or remove it")


def check_trained(run: Path, report: Report) -> None:
    """Checks the files of one run that training writes, and writes again where they are damaged.

    Args:
      run: its work directory.
      report: what is found is added.
    """
    rerun = "rerun the command that trained it"
    if not report.look(partial(runs.read_record, run), f"{rerun}, which rebuilds the record"):
        return
    report.look(partial(_check_metrics, run), f"{rerun}: damaged lines are kept aside")
    _check_checkpoints(run, report)
    report.look(partial(_check_quality, run), f"{rerun}, which writes it")
    report.look(partial(Localiser.load, run / runs.LOCALISER), f"{rerun}, which copies it")


def check_data(data_dir: Path, report: Report) -> None:
    """Reads and decodes every example of every prepared data set.

    Args:
      data_dir: root of the data sets.
      report: what is found is added.

    Raises:
      DamageError: there is no data set.
    """
    paths = sorted(path.parent for path in (data_dir / "cervix").glob("*/*/dataset_info.json"))
    if not paths:
        raise DamageError(f"{data_dir} holds no prepared data set")
    for path in paths:
        log(f"checking {path}")
        report.look(
            partial(_read_examples, path),
            f"remove {path}; it is built again from the photographs by the next command that needs it",
        )


def check_photographs(manual_dir: Path, report: Report) -> None:
    """Reads every photograph of a folder.

    Args:
      manual_dir: searched with its subfolders.
      report: what is found is added.

    Raises:
      DamageError: there is no such folder.
    """
    if not manual_dir.is_dir():
        raise DamageError(f"there is no folder {manual_dir}")
    for path in find_photographs(manual_dir):
        report.look(partial(_read, path, manual_dir), "copy it again from where it came, or remove it")


def _check_metrics(workdir: Path) -> None:
    if damaged := runs.damaged_metrics(workdir):
        raise RunError(f"{len(damaged)} line(s) of {workdir / runs.METRICS} cannot be read")


def _check_quality(workdir: Path) -> None:
    if not (workdir / runs.QUALITY_REFERENCE).exists():
        raise RunError(f"{workdir / runs.QUALITY_REFERENCE} is missing")
    QualityReference.load(workdir / runs.QUALITY_REFERENCE)


def _check_checkpoints(workdir: Path, report: Report) -> None:
    record = runs.read_record(workdir)
    config = options.unflatten(options.flatten(record["config"]))
    setup = make_setup(config, make_mesh(), len(record["class_names"]), 1)
    sharding, state = replicated(setup.mesh), setup.abstract_state()

    def open_and_restore() -> None:
        with Checkpoints.open(workdir) as checkpoints:
            if not checkpoints.steps:
                raise CheckpointError(f"{workdir / runs.CHECKPOINTS} holds no checkpoint")
            for step in checkpoints.steps:
                advice = f"rerun the command that trained it, which moves it to {DAMAGED}/ and goes on from another"
                report.look(partial(checkpoints.restore, step, state, sharding), advice)

    report.look(open_and_restore, "rerun the command that trained it")


def _read_examples(path: Path) -> None:
    builder = tfds.builder_from_directory(path, file_format="array_record")
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split, info in builder.info.splits.items():
        source = builder.as_data_source(split, decoders=decoders)
        for i in range(info.num_examples):
            example = source[i]
            try:
                read_photograph(example["image"])
            except UnreadableError as error:
                raise DamageError(f"{path}, {example['id'].decode()}: {error}") from error


def _read(path: Path, folder: Path) -> None:
    try:
        read_photograph(read_bytes(path, inside=folder))
    except UnreadableError as error:
        raise DamageError(f"{path}: {error}") from error
