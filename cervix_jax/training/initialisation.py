"""The state at step 0: random weights from the seed, the backbone's from a file."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Sharding
from jaxtyping import Float

from cervix_jax.config import ConfigError
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.classifier import Classifier
from cervix_jax.models.weights.pretrained import load_pretrained
from cervix_jax.training.mesh import replicate
from cervix_jax.training.state import TrainState, Variables, create_state


def initial_state(
    model: Classifier,
    tx: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    mean_image: Callable[[], Float[np.ndarray, "h w 3"]],
    sharding: Sharding,
) -> TrainState:
    """A state on the devices.

    Args:
      model: the classifier that `config.model` describes.
      tx: the optimizer.
      config: of the run.
      mean_image: called if the model subtracts the training set's mean photograph.
      sharding: where the arrays go.

    Raises:
      ConfigError: there is a backbone, no weights are given, and random ones are not allowed.
      WeightsError, WeightsNotFoundError: the weights do not fit, cannot be fetched, or are not there.
    """
    size = tuple(config.dataset.image_size)
    variables = jax.jit(init_variables, static_argnums=(0, 1, 2))(model, size, config.seed)
    if model.backbone is not None and (loaded := pretrained_backbone(variables, config.model.backbone)):
        variables = variables | {name: {**variables[name], "backbone": loaded[name]} for name in loaded}
    if variables["constants"]:
        variables = variables | {"constants": {"mean_image": mean_image()}}
    state = create_state(variables, tx, model.trained_layers, averaged=config.optimizer.ema_decay > 0)
    return replicate(state, sharding)


def init_variables(model: Classifier, image_size: tuple[int, int], seed: int) -> Variables:
    """Random variables of a model for images of (height, width) pixels; every collection, empty ones too."""
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *image_size, 3)))
    return {name: variables.get(name, {}) for name in ("params", "batch_stats", "constants")}


def pretrained_backbone(variables: Variables, backbone: ml_collections.ConfigDict) -> Variables | None:
    """`params` and `batch_stats` of the backbone from its weights; None where it is to start from random ones.

    Args:
      variables: of a classifier, or their shapes.
      backbone: `config.model.backbone`.

    Raises:
      ConfigError, WeightsError, WeightsNotFoundError: see `initial_state`.
    """
    if backbone.weights is None:
        if backbone.allow_random:
            return None
        raise ConfigError(
            f"config.model.backbone.name is {backbone.name!r} and config.model.backbone.weights names no file. "
            "Give its path, or --config.model.backbone.weights=imagenet for the published one, "
            f"{BACKBONES[backbone.name].weights.url}, or --config.model.backbone.name=none; "
            "--config.model.backbone.allow_random starts from random weights."
        )
    template = {name: variables[name].get("backbone", {}) for name in ("params", "batch_stats")}
    return load_pretrained(backbone.weights, backbone.name, template)
