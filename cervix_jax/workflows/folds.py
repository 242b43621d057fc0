"""The runs of a cross-validation: one for each fold and seed, each an ordinary run in a folder of its own."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import ml_collections

from cervix_jax import config as options
from cervix_jax import runs
from cervix_jax.config import ConfigError
from cervix_jax.progress import log
from cervix_jax.runs import RunError
from cervix_jax.training import epoch_metrics, loop
from cervix_jax.training.checkpoints import Checkpoints, unreadable
from cervix_jax.training.processes import on_lead_host
from cervix_jax.workflows import verification


@dataclasses.dataclass(frozen=True)
class FoldPlan:
    """Which runs a cross-validation has, and which of them to train now.

    Attributes:
      config: of all runs, but for `seed` and `selection.fold`.
      workdir: the folder that holds theirs.
      chosen: folds to train now.
      seeds: runs a fold.
    """

    config: ml_collections.ConfigDict
    workdir: Path
    chosen: tuple[int, ...]
    seeds: int

    @classmethod
    def of(
        cls, config: ml_collections.ConfigDict, workdir: Path, folds: Sequence[str] | None, seeds: int
    ) -> "FoldPlan":
        """A plan from its flags.

        Args:
          config: of all runs.
          workdir: see `FoldPlan`.
          folds: numbers as they are written; None for all.
          seeds: runs a fold.

        Raises:
          ConfigError: there is no such fold, or the config is invalid.
          RunError: the folder holds a single run.
        """
        config = config.copy_and_resolve_references()
        config.selection.fold = 0  # of no consequence here: the default may not be among fewer folds
        options.validate(config)
        number = config.selection.folds
        chosen = [str(fold) for fold in range(number)] if folds is None else list(folds)
        if wrong := [fold for fold in chosen if not (fold.isdecimal() and int(fold) < number)]:
            raise ConfigError(
                f"--folds has {wrong[0]!r}; with config.selection.folds={number} there are 0 to {number - 1}"
            )
        if (workdir / runs.RECORD).exists():
            raise RunError(f"{workdir} holds a single run; give a cross-validation another --workdir")
        return cls(config, workdir, tuple(dict.fromkeys(map(int, chosen))), seeds)

    def runs(self, folds: Sequence[int]) -> list[tuple[ml_collections.ConfigDict, Path]]:
        """Config and work directory of each run of some folds."""
        return [
            (self._config(fold, seed), runs.fold_workdir(self.workdir, fold, seed))
            for fold in folds
            for seed in range(self.seeds)
        ]

    def unfinished(self) -> list[Path]:
        """Work directories of all folds whose epochs are not all done."""
        every = self.runs(range(self.config.selection.folds))
        return [workdir for config, workdir in every if not _is_finished(config, workdir)]

    def _config(self, fold: int, seed: int) -> ml_collections.ConfigDict:
        config = self.config.copy_and_resolve_references()
        config.selection.fold, config.seed = fold, config.seed + seed
        return config


def train_folds(plan: FoldPlan) -> None:
    """Trains the chosen folds one after another, without those that are finished; of these it repairs what is damaged.

    Raises:
      RunError: a work directory has another configuration.
      Others: see `loop.train`.
    """
    for config, workdir in plan.runs(range(plan.config.selection.folds)):  # all are pooled, whoever trains them
        on_lead_host(partial(runs.check_config, workdir, config))
    for config, workdir in plan.runs(plan.chosen):
        if _is_finished(config, workdir) and _is_whole(workdir):
            log(f"{workdir}: finished")
            continue
        log(f"{workdir}: fold {config.selection.fold} of {config.selection.folds}, seed {config.seed}")
        loop.train(config, workdir)


def _is_whole(workdir: Path) -> bool:
    """Whether training has nothing to repair; what it has is in the log. Removes what a killed run was removing."""
    if not unreadable(workdir):
        with Checkpoints.open(workdir) as checkpoints:
            checkpoints.remove_replaced()
    verification.check_trained(workdir, report := verification.Report())
    return not report.problems


def _is_finished(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Whether the last epoch is done and saved: a run may have been killed between its metrics and its checkpoint."""
    rows = runs.read_metrics(workdir)
    is_over = epoch_metrics.is_over(rows, config.epochs, config.patience)
    return is_over and (workdir / runs.CHECKPOINTS / str(rows[-1].get("step", ""))).is_dir()
