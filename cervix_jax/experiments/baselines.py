"""What a network has to beat: guesses that do not look at the photograph, and logistic regression on frozen features.

Guesses are the report's (section 4.2). The regression is not in the report: a head on frozen features is worth its
three million parameters only if it does better than a linear one on their averages.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize

from cervix_jax.config import ConfigError
from cervix_jax.datasets import pipeline
from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.models.backbones.preprocessing import PREPROCESSING
from cervix_jax.models.classifier import make_classifier
from cervix_jax.training.initialisation import init_variables, pretrained_backbone
from cervix_jax.training.metrics import cross_entropy, softmax

STRENGTHS = tuple(10.0**i for i in range(-5, 2))  # of L2, to choose from
FOLDS = 5

Probabilities = Float[np.ndarray, "n k"]


class Fitted(NamedTuple):
    """Probabilities of the training and of the validation photographs."""

    train: Probabilities
    validation: Probabilities


def uniform(config: ml_collections.ConfigDict, train: pipeline.Examples, validation: pipeline.Examples) -> Fitted:
    """Every type equally likely: a loss of ln 3 = 1.099."""
    k = len(train.class_names)
    return Fitted(np.full((len(train), k), 1 / k), np.full((len(validation), k), 1 / k))


def shares(config: ml_collections.ConfigDict, train: pipeline.Examples, validation: pipeline.Examples) -> Fitted:
    """The types' shares among the training photographs."""
    found = np.array(train.class_shares())
    return Fitted(np.tile(found, (len(train), 1)), np.tile(found, (len(validation), 1)))


def logistic_regression(
    config: ml_collections.ConfigDict, train: pipeline.Examples, validation: pipeline.Examples
) -> Fitted:
    """Multinomial, on the features of `config.model.backbone`, averaged over the map and standardised.

    Its L2 is chosen by cross-validation within the training photographs, so that, unlike the epoch of a network,
    nothing of it is chosen by the validation photographs.

    Raises:
      ConfigError, WeightsError, WeightsNotFoundError: see `initialisation.initial_state`.
    """
    extract = feature_extractor(config)
    features = {part: np.concatenate(list(map(extract, _batches(part)))) for part in (train, validation)}
    mean, deviation = features[train].mean(axis=0), features[train].std(axis=0) + 1e-6
    x, x_validation = ((features[part] - mean) / deviation for part in (train, validation))
    labels = train.labels.astype(int)
    folds = stratified_folds(train.ids, labels, FOLDS, train.groups)
    strength = min(STRENGTHS, key=lambda strength: _held_out_loss(x, labels, folds, strength))
    predict = fit(x, labels, len(train.class_names), strength)
    return Fitted(predict(x), predict(x_validation))


def feature_extractor(config: ml_collections.ConfigDict) -> Callable[[np.ndarray], Float[np.ndarray, "n c"]]:
    """The jitted function from photographs (uint8 [n h w 3]) to the backbone's features, averaged over the map."""
    model = make_classifier(config.model.to_dict())
    if model.backbone is None:
        raise ConfigError("config.model.backbone.name is 'none'; a regression needs a network's features")
    variables = jax.jit(init_variables, static_argnums=(0, 1, 2))(model, (64, 64), config.seed)
    own = {name: variables[name].get("backbone", {}) for name in ("params", "batch_stats")}
    own = pretrained_backbone(variables, config.model.backbone) or own
    backbone, normalise = model.backbone, PREPROCESSING[model.preprocessing]

    @jax.jit
    def extract(images: Array) -> Array:
        features, _ = backbone.apply(own, normalise(images.astype(jnp.float32)), training=None)
        return nn.relu(features).mean(axis=(1, 2))

    return lambda images: np.asarray(extract(images), np.float64)


def _batches(examples: pipeline.Examples, size: int = 32) -> list[np.ndarray]:
    images = np.stack([examples.image(i) for i in range(len(examples))])
    return [images[start : start + size] for start in range(0, len(images), size)]


def _held_out_loss(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], folds: Int[np.ndarray, "n"], strength: float
) -> float:
    losses = []
    for fold in range(FOLDS):
        fitted = folds != fold
        predict = fit(x[fitted], labels[fitted], int(labels.max()) + 1, strength)
        losses.append(cross_entropy(predict(x[~fitted]), labels[~fitted]))
    return float(np.mean(losses))


def fit(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], num_classes: int, strength: float
) -> Callable[[Float[np.ndarray, "m d"]], Probabilities]:
    """Multinomial logistic regression: least mean cross-entropy + strength / 2 * sum of squared weights (no biases).

    Returns:
      The function from features to probabilities.
    """
    n, d = x.shape
    with_one = np.hstack([x, np.ones((n, 1))])
    targets = np.eye(num_classes)[labels]
    penalised = strength * np.append(np.ones(d), 0.0)[:, None]

    def loss_fn(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(d + 1, num_classes)
        probabilities = softmax(with_one @ weights)
        gradient = with_one.T @ (probabilities - targets) / n + penalised * weights
        return cross_entropy(probabilities, labels) + 0.5 * float((penalised * weights**2).sum()), gradient.ravel()

    start = np.zeros((d + 1) * num_classes)
    found = minimize(loss_fn, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    weights = found.reshape(d + 1, num_classes)
    return lambda features: softmax(np.hstack([features, np.ones((len(features), 1))]) @ weights)
