"""What is left of a run after a crash or damage: the newest checkpoint that is whole, and its epochs' metrics.

What checkpoints hold decides; the files beside them are compared with it, or rebuilt from it. Nothing is thrown away:
damaged checkpoints and lines are kept aside.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Sharding

from cervix_jax import runs
from cervix_jax.datasets.quality import QualityReference, QualityReferenceError
from cervix_jax.progress import log
from cervix_jax.runs import RunError
from cervix_jax.training.checkpoints import CheckpointError, Checkpoints, DamagedError, set_aside, unreadable
from cervix_jax.training.processes import on_lead_host
from cervix_jax.training.state import TrainState

_RECORDED = ("config", "class_names", "class_shares", "preprocessing", "data_fingerprint")  # in run.json too


def rebuild_record(workdir: Path) -> None:
    """Writes `run.json` anew from the newest whole checkpoint, if it is missing.

    Raises:
      RunError: it is missing, and no checkpoint is whole; or there are several processes, which cannot rebuild it.
    """
    folder = workdir / runs.CHECKPOINTS
    if (workdir / runs.RECORD).exists() or not folder.is_dir() or not any(folder.iterdir()):
        return
    if jax.process_count() > 1:
        raise RunError(f"{workdir / runs.RECORD} is missing; rerun the command as one process once, which rebuilds it")
    set_unreadable_aside(workdir)
    with Checkpoints.open(workdir) as checkpoints:
        if not checkpoints.steps:
            return
        for step in checkpoints.steps:
            try:
                record = checkpoints.record(step)
                digests = {name: record[name] for name in runs.DIGESTS if name in record}
                runs.write_record(workdir, **{name: record[name] for name in _RECORDED}, **digests)
            except (CheckpointError, KeyError):
                continue
            log(f"{workdir / runs.RECORD} was missing: rebuilt from the checkpoint of step {step}")
            return
    raise RunError(f"{workdir / runs.RECORD} is missing, and no checkpoint is whole; give another --workdir")


def restore_newest(
    workdir: Path, checkpoints: Checkpoints, state: TrainState, sharding: Sharding
) -> tuple[TrainState, dict[str, Any] | None]:
    """The state and record of the newest checkpoint that is whole; damaged ones are moved out of the way.

    Args:
      workdir: of the run.
      checkpoints: of the run.
      state: at step 0, which is returned, with None, if there is no checkpoint.
      sharding: of the restored arrays.

    Raises:
      RunError: there are metrics, and no checkpoint, or none that is whole.
    """
    newest = None
    for step in checkpoints.steps:
        try:
            restored = checkpoints.restore(step, state, sharding)  # the best, to be used later, is checked too
            newest = newest or restored
        except DamagedError as error:
            on_lead_host(partial(_set_aside, workdir, str(step), error))
            checkpoints.manager.reload()
    if newest is not None:
        log(f"resuming {workdir} after step {int(newest[0].step)}")
        return newest
    epochs = len(runs.read_metrics(workdir))
    if epochs > 2:  # of the first two a crash may have left no checkpoint
        raise RunError(
            f"{workdir} has the metrics of {epochs} epochs and no whole checkpoint: put {workdir / runs.CHECKPOINTS} "
            "back, or remove the work directory to start anew"
        )
    return state, None


def recovered_rows(workdir: Path, checkpoints: Checkpoints, done: int, steps_per_epoch: int) -> list[dict[str, Any]]:
    """The rows of metrics up to a step, and those that only a checkpoint still has.

    Args:
      workdir: of the run.
      checkpoints: of the run.
      done: steps; a crash has lost the later ones.
      steps_per_epoch: of the run.
    """
    rows = {row["step"]: row for row in runs.read_metrics(workdir) if row.get("step", done + 1) <= done}
    for step in checkpoints.steps:
        if step <= done and step not in rows and (metrics := checkpoints.metrics(step)):
            raw = {name: x for name, x in metrics.items() if not name.startswith("ema_")}
            averaged = {name.removeprefix("ema_"): x for name, x in metrics.items() if name.startswith("ema_")}
            rows[step] = {
                "epoch": step // steps_per_epoch,
                "step": step,
                **{f"train_{name}": None for name in raw},
                **{f"validation_{name}": x for name, x in raw.items()},
                **{f"ema_validation_{name}": x for name, x in averaged.items()},
                "images_per_second": None,
            }
            log(f"the metrics of step {step} were lost: taken from its checkpoint")
    return [rows[step] for step in sorted(rows)]


def remove_damaged_reference(workdir: Path) -> None:
    """Removes a quality reference that cannot be read; training makes it anew from the photographs."""
    try:
        QualityReference.load(workdir / runs.QUALITY_REFERENCE)
    except QualityReferenceError:
        log(f"{workdir / runs.QUALITY_REFERENCE} is damaged: it will be written again")
        (workdir / runs.QUALITY_REFERENCE).unlink()


def set_unreadable_aside(workdir: Path) -> None:
    """Moves checkpoints away that cannot even be opened; to be called before `Checkpoints.open`."""
    for step in unreadable(workdir):
        _set_aside(
            workdir, step, f"{workdir / runs.CHECKPOINTS / step} is damaged: its validation metrics cannot be read"
        )


def _set_aside(workdir: Path, step: str, why: DamagedError | str) -> None:
    log(f"{why}; moved to {set_aside(workdir, step)}: training goes on from what is whole")
