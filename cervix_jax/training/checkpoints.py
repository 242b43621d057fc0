"""Checkpoints with Orbax: the latest, to continue from, and the one of the best validation epoch.

A checkpoint has three items: `variables` (the whole model, which is all that inference reads), `optimizer` (what else
training needs) and `record` (JSON: position of the data iterator, options, class names, preprocessing). Layouts do not
matter: arrays are saved as global ones and restored onto whatever mesh is there.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from orbax.checkpoint import checkpoint_managers

from cervix_jax.errors import UserError
from cervix_jax.training.state import TrainState, Variables

DIRECTORY = "checkpoints"


class CheckpointError(UserError):
    """There is no checkpoint of the kind asked for."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one work directory, named by step; a context manager, since leaving waits for writes."""

    manager: ocp.CheckpointManager

    @classmethod
    def open(cls, workdir: Path) -> "Checkpoints":
        """Keeps the latest and the one of least validation loss; saves in the background."""

        def loss(metrics: dict[str, float]) -> float:
            return metrics["loss"]

        # best_fn with max_to_keep would delete recent but worse checkpoints; BestN keeps the largest unless reversed.
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(
                    get_metric_fn=loss, reverse=True, n=1, keep_checkpoints_without_metrics=False
                ),
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
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(state.variables()),
            optimizer=ocp.args.StandardSave(_optimizer_part(state)),
            record=ocp.args.JsonSave(record),
        )
        self.manager.save(step, args=items, metrics=validation)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self.manager.latest_step()

    @property
    def best(self) -> int:
        """Step of the checkpoint of least validation loss.

        Raises:
          CheckpointError: no epoch has been finished.
        """
        scored = [step for step in self.manager.all_steps() if self.manager.metrics(step)]
        if not scored:
            raise CheckpointError("no epoch of this run has been finished yet, so there is no best checkpoint")
        return min(scored, key=lambda step: self.manager.metrics(step)["loss"])

    def restore(self, step: int, state: TrainState, sharding: Sharding) -> tuple[TrainState, dict[str, Any]]:
        """The state and record of a checkpoint.

        Args:
          step: which.
          state: of the same structure and shapes.
          sharding: where the arrays go.
        """
        items = ocp.args.Composite(
            variables=ocp.args.StandardRestore(abstract(state.variables(), sharding)),
            optimizer=ocp.args.StandardRestore(abstract(_optimizer_part(state), sharding)),
            record=ocp.args.JsonRestore(),
        )
        found = self.manager.restore(step, args=items)
        return state.with_variables(found.variables).replace(**found.optimizer), found.record

    def restore_variables(self, step: int, template: Variables, sharding: Sharding) -> Variables:
        """Only the model's variables, for inference."""
        items = ocp.args.Composite(variables=ocp.args.StandardRestore(abstract(template, sharding)))
        return self.manager.restore(step, args=items).variables

    def record(self, step: int) -> dict[str, Any]:
        """The record saved with a checkpoint."""
        return self.manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record


def abstract(tree: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes of a tree, to be placed by `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _optimizer_part(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state, "metrics": state.metrics}
