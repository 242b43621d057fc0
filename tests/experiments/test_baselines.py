"""Guesses have closed forms; the regression is scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.experiments import baselines
from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.resnet import RESNET50
from cervix_jax.training.metrics import classification_metrics, cross_entropy


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of three types that overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return rng.normal(size=(n, 5)) + np.eye(3, 5)[labels], labels


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_the_regression_is_scikit_learn_s(strength: float) -> None:
    (x, labels), (other, _) = drawn(200, 0), drawn(50, 1)
    predict = baselines.fit(x, labels, 3, strength)
    theirs = LogisticRegression(C=1 / (strength * len(x)), tol=1e-8, max_iter=5000).fit(x, labels)
    np.testing.assert_allclose(predict(other), theirs.predict_proba(other), atol=2e-4)


def test_guesses_have_the_losses_that_the_report_computes(tiny_config) -> None:
    data = load_dataset(tiny_config)
    train, validation = data.examples("train"), data.examples("validation")
    fitted = baselines.uniform(tiny_config, train, validation)
    assert cross_entropy(fitted.validation, validation.labels) == pytest.approx(np.log(3))
    fitted = baselines.class_priors(tiny_config, train, validation)
    p, q = np.array(train.class_priors()), np.array(validation.class_priors())
    assert cross_entropy(fitted.validation, validation.labels) == pytest.approx(-(q * np.log(p)).sum())
    assert classification_metrics(fitted.train, train.labels, train.class_names)["accuracy"] == p.max()


def test_regression_on_features_of_a_frozen_backbone(tiny_config) -> None:
    """Its features are the backbone's, rectified and averaged; it fits what it is given, and keeps within it."""
    tiny_config.model.backbone.name = "resnet50"
    tiny_config.model.backbone.allow_random = True
    data = load_dataset(tiny_config)
    train, validation = data.examples("train"), data.examples("validation")
    images = np.stack([train.image(i) for i in range(3)])
    features = baselines.feature_extractor(tiny_config)(images)

    backbone = Backbone(RESNET50, "conv1_bn")
    bgr = jnp.asarray(images[..., ::-1], jnp.float32) - jnp.array([103.939, 116.779, 123.68])
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), bgr)
    assert features.shape == (3, 64)
    assert jax.tree.leaves(shapes["params"])
    assert (features >= 0).all()
    assert len(np.unique(features[:, 0])) == 3

    fitted = baselines.logistic_regression(tiny_config, train, validation)
    assert fitted.validation.shape == (12, 3)
    np.testing.assert_allclose(fitted.train.sum(axis=1), 1)
    guess = cross_entropy(baselines.class_priors(tiny_config, train, validation).train, train.labels)
    assert cross_entropy(fitted.train, train.labels) < guess
