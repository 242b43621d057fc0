"""Photographs in, logits out: preprocessing, the cut, and the network that options describe."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_networks import random_variables

from cervix_jax import config as options
from cervix_jax.models.backbones.spec import EndPointError
from cervix_jax.models.classifier import make_classifier
from cervix_jax.models.layers import TrainingPass

SIZE = (32, 24)
NETWORKS = {
    "none": {"model.backbone.name": "none"},
    "vanilla_cnn": {"model.name": "vanilla_cnn"},
    "resnet50": {"model.backbone.cut": "3"},
}
every_network = pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)


def model_options(**changes):
    config = options.unflatten({"model.widths": (8, 16), "model.blocks": (1, 1)} | changes)
    return config.model.to_dict()


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SIZE, 3)))


def photographs(count: int = 2) -> jax.Array:
    return jax.random.randint(jax.random.key(0), (count, *SIZE, 3), 0, 256).astype(jnp.uint8)


@every_network
def test_integers_and_floats_of_the_same_photograph_give_the_same_logits(changes) -> None:
    model = make_classifier(model_options(**changes))
    variables, images = random_variables(shapes(model)), photographs()

    @jax.jit
    def both(images):
        return model.apply(variables, images), model.apply(variables, images.astype(jnp.float32))

    (logits, points), (of_floats, _) = both(images)
    assert logits.shape == (2, 3)
    assert logits.dtype == jnp.float32
    assert {"features", "logits"} <= points.keys()
    assert ("conv1_bn" in points) == (model.backbone is not None)
    np.testing.assert_array_equal(logits, of_floats)


def test_the_mean_photograph_is_subtracted() -> None:
    model = make_classifier(model_options(**NETWORKS["none"]))
    variables, images = random_variables(shapes(model)), photographs().astype(jnp.float32)
    apply = jax.jit(lambda mean, images: model.apply(variables | {"constants": {"mean_image": mean}}, images)[0])
    shifted = apply(jnp.full((*SIZE, 3), 10.0), images)
    np.testing.assert_allclose(shifted, apply(jnp.zeros((*SIZE, 3)), images - 10), atol=1e-5)


def test_the_report_counts_layers_as_keras_does() -> None:
    """Report section 11: '3 layers' is `conv1_bn`, which ends before its activation: the head sees its ReLU."""
    by_number, by_name = (make_classifier(model_options(**{"model.backbone.cut": cut})) for cut in ("3", "conv1_bn"))
    assert by_number == by_name
    variables, images = random_variables(shapes(by_number)), photographs()
    logits, points = jax.jit(by_number.apply)(variables, images)
    assert points["conv1_bn"].min() < 0
    of_head = {name: variables[name]["head"] for name in ("params", "batch_stats")}
    expected, _ = jax.jit(by_number.head.apply)(of_head, jax.nn.relu(points["conv1_bn"]))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_only_a_head_on_photographs_has_a_stem() -> None:
    assert "stem" not in shapes(make_classifier(model_options()))["params"]["head"]
    assert "stem" in shapes(make_classifier(model_options(**NETWORKS["none"])))["params"]["head"]


def test_an_unknown_cut_names_the_nearest() -> None:
    with pytest.raises(EndPointError, match="conv1_bn"):
        make_classifier(model_options(**{"model.backbone.cut": "conv1_bm"}))


def test_options_recorded_as_json_give_the_same_network_ignored_ones_too() -> None:
    for name in ("inception_residual", "naive_transfer", "vanilla_cnn"):
        recorded = model_options(**{"model.name": name})
        model = make_classifier(recorded, 2)
        assert model.head.num_classes == 2
        assert (model.backbone is None) == (name == "vanilla_cnn")
        again = make_classifier(json.loads(json.dumps(recorded)), 2)
        assert again == model
        assert hash(again) == hash(model)  # as jit needs


@pytest.mark.parametrize(
    ("trainable", "training"),
    [("none", None), ("none", TrainingPass()), ("all", TrainingPass()), (("conv2",), TrainingPass())],
)
def test_saliency_reaches_the_pixels_through_frozen_stages(trainable, training) -> None:
    changes = {"model.backbone.cut": "conv2_block1_1_relu", "model.backbone.trainable": trainable}
    model = make_classifier(model_options(**changes))
    variables = random_variables(shapes(model))

    @jax.jit
    @jax.grad
    def saliency(images):
        return model.apply(variables, images, training=training, mutable=["batch_stats"])[0][0][0, 0]

    gradient = saliency(photographs().astype(jnp.float32))
    assert np.mean(np.asarray(gradient[0]) != 0) > 0.9
    if training is None:
        assert not np.any(gradient[1])


@pytest.mark.parametrize("changes", [NETWORKS["vanilla_cnn"], NETWORKS["resnet50"]], ids=["vanilla_cnn", "resnet50"])
def test_half_precision_computes_nearly_the_same_with_the_same_parameters(changes) -> None:
    """Eight bits of mantissa: a relative error of 0.4 % per layer, and up to fifteen layers."""
    models = [make_classifier(model_options(**changes, **{"model.dtype": t})) for t in ("float32", "bfloat16")]
    variables = random_variables(shapes(models[0]))
    assert shapes(models[0]) == shapes(models[1])
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(models[1]))} == {jnp.dtype("float32")}

    @partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def grad_fn(params, model):
        (logits, points), state = model.apply(
            variables | {"params": params}, photographs(8), training=TrainingPass(), mutable=["batch_stats"]
        )
        assert logits.dtype == points["features"].dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
        dtypes = {point.dtype for name, point in points.items() if point.ndim == 4}
        assert dtypes == {model.dtype}
        return jax.nn.log_softmax(logits)[:, 0].mean()

    (loss, gradient), (half_loss, half_gradient) = (grad_fn(variables["params"], model) for model in models)
    np.testing.assert_allclose(loss, half_loss, rtol=0.05)
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g["head"])]) for g in (gradient, half_gradient))
    assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.8  # fourteen batch norms over few pixels
