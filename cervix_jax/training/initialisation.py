"""Variables at step 0: random ones from the seed, the backbone's from its file of weights."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_collections

from cervix_jax.config import ConfigError
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.classifier import Classifier
from cervix_jax.models.weights.pretrained import load_pretrained
from cervix_jax.training.state import Variables


@partial(jax.jit, static_argnums=(0, 1, 2))
def init_variables(model: Classifier, image_size: tuple[int, int], seed: int) -> Variables:
    """Random variables of a model: `params`, `batch_stats` and `constants`, empty ones included.

    Args:
      model: the classifier.
      image_size: height and width in pixels.
      seed: of all random weights.
    """
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *image_size, 3)))
    return {name: variables.get(name, {}) for name in ("params", "batch_stats", "constants")}


def pretrained_backbone(variables: Variables, backbone: ml_collections.ConfigDict) -> Variables | None:
    """`params` and `batch_stats` of the backbone from its file of weights; None if it starts from random ones.

    Args:
      variables: of the classifier, or their shapes.
      backbone: `config.model.backbone`.

    Raises:
      ConfigError: no weights are given, and `allow_random` is off.
      WeightsError: the weights do not fit.
      WeightsNotFoundError: they are not there, or cannot be fetched.
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
