"""Checkpoints with Orbax: the latest, to continue from, and the one of the best validation epoch.

A checkpoint has the items `variables` (the whole model, which is all that inference reads), `averaged` (the same, as a
moving average, where `config.optimizer.ema_decay` is set), `optimizer` (what else training needs) and `record` (JSON:
position of the data iterator, options, class names, preprocessing). Layouts do not matter: arrays are saved as global
ones and restored onto whatever mesh is there.
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
LOSSES = {"variables": "loss", "averaged": "ema_loss"}  # item -> the validation loss that says which one is best


class CheckpointError(UserError):
    """There is no checkpoint of the kind asked for."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one work directory, named by step; a context manager, since leaving waits for writes."""

    manager: ocp.CheckpointManager

    @classmethod
    def open(cls, workdir: Path, *, averaged: bool = False) -> "Checkpoints":
        """Keeps the latest and the one of least validation loss; saves in the background.

        Args:
          workdir: of the run.
          averaged: keep the one of least validation loss of the averaged variables, too.
        """

        def loss(metrics: dict[str, float], name: str = LOSSES["variables"]) -> float:
            return metrics[name]

        # best_fn with max_to_keep would delete recent but worse checkpoints; BestN keeps the largest unless reversed.
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
        """Starts writing a checkpoint of the state's step; a no-op if there is one.

        Args:
          state: what to save.
          record: JSON-able.
          validation: metrics at the end of an epoch; None within one, where the checkpoint is only to continue from.
        """
        step = int(state.step)
        if step in self.manager.all_steps():
            return
        items: dict[str, Any] = {
            "variables": ocp.args.StandardSave(state.variables()),
            "optimizer": ocp.args.StandardSave(_optimizer_part(state)),
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
        """Whether a finished epoch has averaged variables, too."""
        return any(LOSSES["averaged"] in (self.manager.metrics(step) or {}) for step in self.manager.all_steps())

    def metrics(self, step: int) -> dict[str, float]:
        """Validation metrics of a checkpoint at the end of an epoch."""
        return self.manager.metrics(step)

    def best(self, item: str = "variables") -> int:
        """Step of the checkpoint whose `variables` or `averaged` ones have the least validation loss.

        Raises:
          CheckpointError: no epoch has been finished, or no average was kept.
        """
        scored = {step: metrics for step in self.manager.all_steps() if (metrics := self.manager.metrics(step))}
        if not scored:
            raise CheckpointError("no epoch of this run has been finished yet, so there is no best checkpoint")
        losses = {step: metrics[LOSSES[item]] for step, metrics in scored.items() if LOSSES[item] in metrics}
        if not losses:
            raise CheckpointError("this run kept no moving average; it had config.optimizer.ema_decay=0")
        return min(losses, key=lambda step: losses[step])

    def restore(self, step: int, state: TrainState, sharding: Sharding) -> tuple[TrainState, dict[str, Any]]:
        """The state and record of a checkpoint.

        Args:
          step: which.
          state: of the same structure and shapes.
          sharding: where the arrays go.
        """
        variables = ocp.args.StandardRestore(abstract(state.variables(), sharding))
        items: dict[str, Any] = {
            "variables": variables,
            "optimizer": ocp.args.StandardRestore(abstract(_optimizer_part(state), sharding)),
            "record": ocp.args.JsonRestore(),
        }
        if state.average:
            items["averaged"] = variables
        found = self.manager.restore(step, args=ocp.args.Composite(**items))
        state = state.with_variables(found.variables).replace(**found.optimizer)
        return state.with_averaged_variables(found.averaged) if state.average else state, found.record

    def restore_variables(
        self, step: int, template: Variables, sharding: Sharding, item: str = "variables"
    ) -> Variables:
        """Only the model's variables, or `averaged` ones, for inference."""
        items = ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract(template, sharding))})
        return self.manager.restore(step, args=items)[item]

    def record(self, step: int) -> dict[str, Any]:
        """The record saved with a checkpoint."""
        return self.manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record


def abstract(tree: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes of a tree, to be placed by `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _optimizer_part(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state, "metrics": state.metrics}
