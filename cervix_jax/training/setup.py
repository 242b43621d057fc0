"""What a config determines of training, except the data: model, optimizer, step and state.

Training, its benchmark and the planner all take these from here, so that the same is trained, measured and planned.
"""

import dataclasses
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float

from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.training.initialisation import init_variables, pretrained_backbone
from cervix_jax.training.mesh import replicate, replicated
from cervix_jax.training.optimizer import learning_rate, make_optimizer
from cervix_jax.training.state import TrainState, Variables, create_state
from cervix_jax.training.step import TrainStep, make_train_step


@dataclasses.dataclass(frozen=True)
class TrainSetup:
    """What is fixed while a run trains.

    Attributes:
      config: of the run.
      mesh: the devices.
      steps_per_epoch: of training.
      model: as `config.model` describes it.
      schedule: learning rate by step, from 0.
      tx: the optimizer.
      train_step: see `make_train_step`.
    """

    config: ml_collections.ConfigDict
    mesh: Mesh
    steps_per_epoch: int
    model: Classifier
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    train_step: TrainStep

    def initial_state(
        self, mean_image: Callable[[], Float[np.ndarray, "h w 3"]], variables: Variables | None = None
    ) -> TrainState:
        """The replicated state at step 0: random weights by `config.seed`, the backbone's from its file.

        Args:
          mean_image: the training set's, RGB, 0 to 255; called only if the model subtracts it.
          variables: all of them, to start from instead; see `initial_run.initial_variables`.

        Raises:
          ConfigError, WeightsError, WeightsNotFoundError: see `pretrained_backbone`.
        """
        if variables is not None:
            return replicate(self._state(variables), replicated(self.mesh))
        variables = self._random_variables()
        if self.model.backbone is not None and (loaded := pretrained_backbone(variables, self.config.model.backbone)):
            variables = variables | {name: {**variables[name], "backbone": loaded[name]} for name in loaded}
        if variables["constants"]:
            variables = variables | {"constants": {"mean_image": mean_image()}}
        return replicate(self._state(variables), replicated(self.mesh))

    def random_state(self) -> TrainState:
        """The replicated state at step 0 with random weights only, which is as fast and as large as any other."""
        return replicate(self._state(self._random_variables()), replicated(self.mesh))

    def abstract_state(self) -> TrainState:
        """Shapes and dtypes of the state; nothing is computed."""
        return jax.eval_shape(lambda: self._state(self._random_variables()))

    def _random_variables(self) -> Variables:
        return init_variables(self.model, tuple(self.config.dataset.image_size), self.config.seed)

    def _state(self, variables: Variables) -> TrainState:
        averaged = self.config.optimizer.ema_decay > 0
        return create_state(variables, self.tx, self.model.trained_layers, averaged=averaged)


def make_setup(config: ml_collections.ConfigDict, mesh: Mesh, num_classes: int, steps_per_epoch: int) -> TrainSetup:
    """Compiles nothing and makes no array.

    Args:
      config: of the run.
      mesh: the devices.
      num_classes: outputs of the model.
      steps_per_epoch: for the learning rate's schedule.
    """
    model, tx = make_classifier(config.model.to_dict(), num_classes), make_optimizer(config, steps_per_epoch)
    return TrainSetup(
        config=config,
        mesh=mesh,
        steps_per_epoch=steps_per_epoch,
        model=model,
        schedule=learning_rate(config, steps_per_epoch),
        tx=tx,
        train_step=make_train_step(model, tx, config, mesh),
    )
