"""What a network has to beat: guesses that ignore the photograph, and logistic regression on frozen features.

Guesses are the report's (section 4.2). The regression is not in the report: a head on frozen features is worth its
three million parameters only if it does better than a linear model on the features' averages.
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
from scipy.special import log_softmax, softmax

from cervix_jax.config import ConfigError
from cervix_jax.datasets.pipeline import Examples
from cervix_jax.datasets.splits import stratified_folds
from cervix_jax.models.backbones.backbone import preprocess
from cervix_jax.models.classifier import make_classifier
from cervix_jax.training.forward import image_batches
from cervix_jax.training.initialisation import init_variables, pretrained_backbone
from cervix_jax.training.metrics import cross_entropy

L2_STRENGTHS = tuple(10.0**i for i in range(-5, 2))  # the candidates
NUM_FOLDS = 5

Probabilities = Float[np.ndarray, "n k"]


class Predictions(NamedTuple):
    """Probabilities for the training and for the validation photographs."""

    train: Probabilities
    validation: Probabilities


def uniform(config: ml_collections.ConfigDict, train: Examples, validation: Examples) -> Predictions:
    """Every class equally likely: a loss of ln 3 = 1.099 nats."""
    k = len(train.class_names)
    return Predictions(np.full((len(train), k), 1 / k), np.full((len(validation), k), 1 / k))


def class_priors(config: ml_collections.ConfigDict, train: Examples, validation: Examples) -> Predictions:
    """The frequencies of the classes among the training photographs."""
    priors = np.array(train.class_priors())
    return Predictions(np.tile(priors, (len(train), 1)), np.tile(priors, (len(validation), 1)))


def logistic_regression(config: ml_collections.ConfigDict, train: Examples, validation: Examples) -> Predictions:
    """Multinomial regression on the features of `config.model.backbone`, averaged over the map and standardised.

    Its L2 strength is chosen by cross-validation within the training photographs, so that, unlike a network's best
    epoch, it owes nothing to the validation photographs.

    Raises:
      ConfigError, WeightsError, WeightsNotFoundError: see `initialisation.initial_state`.
    """
    extract = feature_extractor(config)
    features, validation_features = (_features(extract, examples) for examples in (train, validation))
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    x, x_validation = (features - mean) / std, (validation_features - mean) / std
    labels = train.labels.astype(int)
    folds = stratified_folds(train.ids, labels, NUM_FOLDS, train.groups)
    strength = min(L2_STRENGTHS, key=lambda strength: _cross_validated_loss(x, labels, folds, strength))
    predict = fit(x, labels, len(train.class_names), strength)
    return Predictions(predict(x), predict(x_validation))


def feature_extractor(config: ml_collections.ConfigDict) -> Callable[[np.ndarray], Float[np.ndarray, "n c"]]:
    """The jitted function from photographs (uint8 [n h w 3]) to the backbone's features, averaged over the map."""
    model = make_classifier(config.model.to_dict())
    if model.backbone is None:
        raise ConfigError("config.model.backbone.name is 'none'; a regression needs a network's features")
    random = jax.jit(init_variables, static_argnums=(0, 1, 2))(model, (64, 64), config.seed)
    variables = pretrained_backbone(random, config.model.backbone) or {
        name: random[name].get("backbone", {}) for name in ("params", "batch_stats")
    }
    backbone, preprocessing = model.backbone, model.backbone.architecture.weights.preprocessing

    @jax.jit
    def extract(images: Array) -> Array:
        features, _ = backbone.apply(variables, preprocess(images.astype(jnp.float32), preprocessing), training=None)
        return nn.relu(features).mean(axis=(1, 2))

    return lambda images: np.asarray(extract(images), np.float64)


def fit(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], num_classes: int, l2: float
) -> Callable[[Float[np.ndarray, "m d"]], Probabilities]:
    """Multinomial logistic regression: minimises mean cross-entropy + l2 / 2 * sum of squared weights (not biases).

    Returns:
      The function from features to probabilities.
    """
    n, d = x.shape
    x_with_bias = np.hstack([x, np.ones((n, 1))])
    targets = np.eye(num_classes)[labels]
    penalty = l2 * np.append(np.ones(d), 0.0)[:, None]

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(d + 1, num_classes)
        log_probabilities = log_softmax(x_with_bias @ weights, axis=1)
        loss = -(targets * log_probabilities).sum() / n + 0.5 * (penalty * weights**2).sum()
        gradient = x_with_bias.T @ (np.exp(log_probabilities) - targets) / n + penalty * weights
        return float(loss), gradient.ravel()

    start = np.zeros((d + 1) * num_classes)
    optimum = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    weights = optimum.reshape(d + 1, num_classes)
    return lambda features: softmax(np.hstack([features, np.ones((len(features), 1))]) @ weights, axis=1)


def _features(
    extract: Callable[[np.ndarray], Float[np.ndarray, "n c"]], examples: Examples
) -> Float[np.ndarray, "n c"]:
    batches = image_batches(examples.images, batch_size=32)
    return np.concatenate([extract(batch["image"])[batch["mask"]] for batch in batches])


def _cross_validated_loss(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], folds: Int[np.ndarray, "n"], l2: float
) -> float:
    losses = []
    for fold in range(NUM_FOLDS):
        train = folds != fold
        predict = fit(x[train], labels[train], int(labels.max()) + 1, l2)
        losses.append(cross_entropy(predict(x[~train]), labels[~train]))
    return float(np.mean(losses))
