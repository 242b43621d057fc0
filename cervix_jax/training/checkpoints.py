"""Checkpoints with Orbax: the latest, to resume from, and the one of the best validation epoch.

A checkpoint has the items `variables` (the whole model, which is all that inference reads), `averaged` (their moving
average, if `config.optimizer.ema_decay` is set), `optimizer` (what else training needs) and `record` (JSON: position of
the data iterator, options, class names, preprocessing). They do not depend on the layout: global arrays are saved, and
restored onto any mesh.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from orbax.checkpoint import checkpoint_managers

from cervix_jax.errors import UserError
from cervix_jax.training.state import TrainState, Variables

DIRECTORY = "checkpoints"
LOSSES = {"variables": "loss", "averaged": "ema_loss"}  # item -> validation metric by which its best is chosen


class CheckpointError(UserError):
    """There is no such checkpoint."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a work directory, by step; a context manager that waits for pending writes at its end."""

    manager: ocp.CheckpointManager

    @classmethod
    def open(cls, workdir: Path, *, averaged: bool = False) -> "Checkpoints":
        """Keeps the latest and the one of lowest validation loss; saves in the background.

        Args:
          workdir: of the run.
          averaged: also keep the one of lowest validation loss of the averaged variables.
        """

        def loss(metrics: dict[str, float], name: str = LOSSES["variables"]) -> float:
            return metrics[name]

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
        return cls(ocp.CheckpointManager((workdir / DIRECTORY).absolute(), options=options))

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
        items: dict[str, Any] = {
            "variables": ocp.args.StandardSave(state.variables()),
            "optimizer": ocp.args.StandardSave(_optimizer_item(state)),
            "record": ocp.args.JsonSave(record),
        }
        if state.average:
            items["averaged"] = ocp.args.StandardSave(state.averaged_variables())
        self.manager.save(step, args=ocp.args.Composite(**items), metrics=validation)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self.manager.latest_step()

    @property
    def has_average(self) -> bool:
        """Whether a finished epoch also has averaged variables."""
        return any(LOSSES["averaged"] in (self.manager.metrics(step) or {}) for step in self.manager.all_steps())

    def metrics(self, step: int) -> dict[str, float]:
        """Validation metrics of a checkpoint that was saved at the end of an epoch."""
        return self.manager.metrics(step)

    def best(self, item: str = "variables") -> int:
        """Step of the checkpoint whose `variables` or `averaged` variables have the lowest validation loss.

        Raises:
          CheckpointError: no epoch has been finished, or no average was kept.
        """
        validated = {step: metrics for step in self.manager.all_steps() if (metrics := self.manager.metrics(step))}
        if not validated:
            raise CheckpointError("no epoch of this run has been finished yet, so there is no best checkpoint")
        losses = {step: metrics[LOSSES[item]] for step, metrics in validated.items() if LOSSES[item] in metrics}
        if not losses:
            raise CheckpointError("this run kept no moving average; it had config.optimizer.ema_decay=0")
        return min(losses, key=lambda step: losses[step])

    def restore(self, step: int, state: TrainState, sharding: Sharding) -> tuple[TrainState, dict[str, Any]]:
        """Restores state and record of a checkpoint.

        Args:
          step: of the checkpoint.
          state: any of the same structure and shapes.
          sharding: of the restored arrays.
        """
        variables = ocp.args.StandardRestore(abstract(state.variables(), sharding))
        items: dict[str, Any] = {
            "variables": variables,
            "optimizer": ocp.args.StandardRestore(abstract(_optimizer_item(state), sharding)),
            "record": ocp.args.JsonRestore(),
        }
        if state.average:
            items["averaged"] = variables
        restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        state = state.with_variables(restored.variables).replace(**restored.optimizer)
        return state.with_averaged_variables(restored.averaged) if state.average else state, restored.record

    def restore_variables(
        self, step: int, template: Variables, sharding: Sharding, item: str = "variables"
    ) -> Variables:
        """Restores the model's `variables` or `averaged` ones, for inference; arguments as in `restore`."""
        items = ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract(template, sharding))})
        return self.manager.restore(step, args=items)[item]

    def record(self, step: int) -> dict[str, Any]:
        """The record that was saved with a checkpoint."""
        return self.manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record


def abstract(tree: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes of a tree of arrays, with a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _optimizer_item(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state, "metrics": state.metrics}
