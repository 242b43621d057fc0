"""Checkpoints with Orbax: the latest, to resume from, and the one of the best validation epoch.

A checkpoint has the items `variables` (the whole model, which is all that inference reads), `averaged` (their moving
average, if `config.optimizer.ema_decay` is set), `optimizer` (what else training needs) and `record` (JSON: position of
the data iterator, options, class names, preprocessing). They do not depend on the layout: global arrays are saved, and
restored onto any mesh.

The record has a SHA-256 of each of these items, of the validation metrics and of itself, which are checked on restore:
one flipped bit would change what a network says, and nothing else would tell. Checkpoints of older versions have none.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from orbax.checkpoint import checkpoint_managers

from cervix_jax import runs
from cervix_jax.errors import UserError
from cervix_jax.training.state import TrainState, Variables

DAMAGED = "damaged-checkpoints"
_CHECKSUMS, _METRICS = "sha256", "metrics"  # entries of a saved record that are no business of who saved it
_READS = 5  # tries to read beside a trainer, whose epochs take longer than a read
LOSSES = {"variables": "loss", "averaged": "ema_loss"}  # item -> validation metric by which its best is chosen

T = TypeVar("T")


class CheckpointError(UserError):
    """There is no such checkpoint."""


class DamagedError(CheckpointError):
    """A checkpoint cannot be read, or is not what was saved."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a work directory, by step; a context manager that waits for pending writes at its end."""

    manager: ocp.CheckpointManager
    workdir: Path

    @classmethod
    def open(cls, workdir: Path, *, averaged: bool = False) -> "Checkpoints":
        """Keeps the latest and the one of lowest validation loss; saves in the background.

        Args:
          workdir: of the run.
          averaged: also keep the one of lowest validation loss of the averaged variables.

        Raises:
          DamagedError: validation metrics of a checkpoint cannot be read.
        """
        for step in unreadable(workdir):
            raise DamagedError(f"{workdir / runs.CHECKPOINTS / step} is damaged: its validation metrics cannot be read")

        def loss(metrics: dict[str, float], name: str = LOSSES["variables"]) -> float:
            return _comparable(metrics[name])

        # With best_fn and max_to_keep, Orbax would delete recent but worse checkpoints. BestN keeps the largest metric.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(1)]
            + [
                checkpoint_managers.BestN(
                    get_metric_fn=partial(loss, name=name), reverse=True, n=1, keep_checkpoints_without_metrics=False
                )
                for name in (LOSSES.values() if averaged else [LOSSES["variables"]])
            ]
        )
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, best_fn=loss, best_mode="min")
        return cls(ocp.CheckpointManager((workdir / runs.CHECKPOINTS).absolute(), options=options), workdir)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.wait_until_finished()
        self.manager.close()

    def save(self, state: TrainState, record: dict[str, Any], validation: dict[str, float] | None) -> None:
        """Starts to write a checkpoint of the state's step, unless there is one.

        Args:
          state: to save.
          record: anything that JSON can hold.
          validation: metrics at the end of an epoch; None within one, for a checkpoint that is only resumed from.
        """
        step = int(state.step)
        if step in self.manager.all_steps():
            return
        trees = {"variables": state.variables(), "optimizer": _optimizer_item(state)}
        if state.average:
            trees["averaged"] = state.averaged_variables()
        record = record | {_METRICS: validation, _CHECKSUMS: {name: checksum(tree) for name, tree in trees.items()}}
        record[_CHECKSUMS]["record"] = _record_checksum(record)
        items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items["record"] = ocp.args.JsonSave(record)
        self.manager.save(step, args=ocp.args.Composite(**items), metrics=validation)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self.manager.latest_step()

    @property
    def has_average(self) -> bool:
        """Whether a finished epoch also has averaged variables."""
        return any(LOSSES["averaged"] in (self.metrics(step) or {}) for step in self.steps)

    def metrics(self, step: int) -> dict[str, float] | None:
        """Validation metrics of a checkpoint; None of one that was saved within an epoch."""
        return self.manager.metrics(step)

    @property
    def steps(self) -> list[int]:
        """Of all checkpoints, newest first."""
        return sorted(self.manager.all_steps(), reverse=True)

    def best(self, item: str = "variables") -> int:
        """Step of the checkpoint whose `variables` or `averaged` variables have the lowest validation loss.

        Raises:
          CheckpointError: no epoch has been finished, or no average was kept.
        """
        validated = {step: metrics for step in self.steps if (metrics := self.metrics(step))}
        if not validated:
            raise CheckpointError("no epoch of this run has been finished yet, so there is no best checkpoint")
        losses = {
            step: _comparable(metrics[LOSSES[item]]) for step, metrics in validated.items() if LOSSES[item] in metrics
        }
        if not losses:
            raise CheckpointError("this run kept no moving average; it had config.optimizer.ema_decay=0")
        return min(losses, key=lambda step: losses[step])

    def remove_replaced(self) -> None:
        """Removes checkpoints that are neither the latest nor a best one.

        Orbax does when it saves; a run that was killed then may have removed nothing, or a part of one.
        """
        kept = {self.latest}
        for item in LOSSES:
            with contextlib.suppress(CheckpointError):
                kept.add(self.best(item))
        for step in set(self.steps) - kept:
            self.manager.delete(step)

    def restore(self, step: int, state: TrainState, sharding: Sharding) -> tuple[TrainState, dict[str, Any]]:
        """Restores state and record of a checkpoint.

        Args:
          step: of the checkpoint.
          state: any of the same structure and shapes.
          sharding: of the restored arrays.
        """
        trees = {"variables": state.variables(), "optimizer": _optimizer_item(state)}
        if state.average:
            trees["averaged"] = trees["variables"]
        restored = self._restore(step, {name: abstract(tree, sharding) for name, tree in trees.items()})
        state = state.with_variables(restored["variables"]).replace(**restored["optimizer"])
        state = state.with_averaged_variables(restored["averaged"]) if state.average else state
        return state, self.record(step)

    def restore_variables(
        self, step: int, template: Variables, sharding: Sharding, item: str = "variables"
    ) -> Variables:
        """Restores the model's `variables` or `averaged` ones, for inference; arguments as in `restore`."""
        return self._restore(step, {item: abstract(template, sharding)})[item]

    def record(self, step: int) -> dict[str, Any]:
        """The record that was saved with a checkpoint.

        Raises:
          DamagedError: it is not what was saved.
        """
        saved = self._saved_record(step)
        return {name: value for name, value in saved.items() if name not in (_CHECKSUMS, _METRICS)}

    def checksums(self, step: int) -> dict[str, str]:
        """SHA-256 of the arrays of each item, by its name; none in checkpoints of older versions."""
        saved = self._saved_record(step).get(_CHECKSUMS, {})
        return {name: digest for name, digest in saved.items() if name != "record"}

    def _saved_record(self, step: int) -> dict[str, Any]:
        try:
            saved = self.manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record
            is_whole = _CHECKSUMS not in saved or saved[_CHECKSUMS]["record"] == _record_checksum(saved)
        except Exception as error:  # as many kinds as there are ways to damage it
            raise self._damaged(step, "its record cannot be read") from error
        if not is_whole:
            raise self._damaged(step, "its record is not what was saved")
        return saved

    def _restore(self, step: int, templates: dict[str, Any]) -> dict[str, Any]:
        """Items of a checkpoint, each checked.

        Raises:
          DamagedError: one cannot be read, or is not what was saved.
        """
        saved = self._saved_record(step)
        if _CHECKSUMS in saved and saved[_METRICS] != self.metrics(step):
            raise self._damaged(step, "its validation metrics are not what was saved")
        items = {name: ocp.args.StandardRestore(template) for name, template in templates.items()}
        try:
            restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax, TensorStore and zstd have many
            raise self._damaged(step, f"it cannot be read ({str(error).strip().splitlines()[0][:100]})") from error
        for name in templates:
            if saved.get(_CHECKSUMS, {}).get(name) not in (None, checksum(restored[name])):
                raise self._damaged(step, f"its {name} are not what was saved")
        return {name: restored[name] for name in templates}

    def _damaged(self, step: int, what: str) -> DamagedError:
        return DamagedError(f"{self.workdir / runs.CHECKPOINTS / str(step)} is damaged: {what}")


def unreadable(workdir: Path) -> list[str]:
    """Steps of checkpoints whose validation metrics cannot be read, which Orbax does when it opens them."""
    damaged = []
    for path in (workdir / runs.CHECKPOINTS).glob("*/metrics/metrics"):
        try:
            if not isinstance(json.loads(path.read_text()), dict):
                raise ValueError("no metrics")
        except FileNotFoundError:  # a trainer has replaced it
            continue
        except (ValueError, OSError):
            damaged.append(path.parent.parent.name)
    return damaged


def set_aside(workdir: Path, step: str) -> Path:
    """Moves a damaged checkpoint out of the way, so that its step can be saved again; returns where it is now."""
    place = workdir / DAMAGED / step
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    (workdir / runs.CHECKPOINTS / step).rename(place)
    return place


def read_checkpoints(workdir: Path, read: Callable[[Checkpoints], T]) -> T:
    """What `read` returns of the checkpoints of a run that may be training at this moment.

    The trainer removes checkpoints that newer ones replace; a reader whom that surprises reads again.

    Args:
      workdir: of the run.
      read: reads from them.
    """
    for _ in range(_READS - 1):
        before = _names(workdir)
        try:
            with Checkpoints.open(workdir) as checkpoints:
                return read(checkpoints)
        except Exception:
            if _names(workdir) == before:
                raise
    with Checkpoints.open(workdir) as checkpoints:
        return read(checkpoints)


def _names(workdir: Path) -> set[str]:
    folder = workdir / runs.CHECKPOINTS
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def checksum(tree: Any) -> str:
    """SHA-256 of paths, shapes, types and contents of all arrays of a tree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{_plain(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _plain(path: tuple[Any, ...]) -> str:
    """The same for attributes, entries of a dict and places of a tuple: Orbax restores some as others."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def _record_checksum(record: dict[str, Any]) -> str:
    checksums = {name: value for name, value in record[_CHECKSUMS].items() if name != "record"}
    return hashlib.sha256(json.dumps(record | {_CHECKSUMS: checksums}, sort_keys=True).encode()).hexdigest()


def abstract(tree: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes of a tree of arrays, with a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _optimizer_item(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state, "metrics": state.metrics}


def _comparable(loss: float) -> float:
    """The loss; of an epoch whose loss is not a number, one that is worse than any."""
    return math.inf if math.isnan(loss) else loss
