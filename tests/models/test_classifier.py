"""Photographs in, logits out: preprocessing, the cut, and what options build."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax import config as options
from cervix_jax.models.backbones.backbone import EndPointError
from cervix_jax.models.classifier import make_classifier
from cervix_jax.models.layers import TrainingPass
from cervix_jax.training.initialisation import init_variables

SIZE = (32, 24)

init = jax.jit(init_variables, static_argnums=(0, 1, 2))


def model_options(**changes):
    config = options.unflatten({"model.widths": (8, 16), "model.blocks": (1, 1)} | changes)
    return config.model.to_dict()


def pictures(count: int = 2) -> jax.Array:
    return jax.random.randint(jax.random.key(0), (count, *SIZE, 3), 0, 256).astype(jnp.uint8)


@pytest.mark.parametrize(
    "changes",
    [{"model.backbone.name": "none"}, {"model.name": "vanilla_cnn"}, {"model.backbone.cut": "3"}],
    ids=["none", "vanilla_cnn", "resnet50"],
)
def test_integers_and_floats_of_the_same_photograph_give_the_same_logits(changes) -> None:
    model = make_classifier(model_options(**changes))
    variables = init(model, SIZE, 0)
    images = pictures()
    logits, points = model.apply(variables, images)
    assert logits.shape == (2, 3)
    assert logits.dtype == jnp.float32
    assert {"features", "logits"} <= points.keys()
    assert ("conv1_bn" in points) == (model.backbone is not None)
    np.testing.assert_array_equal(logits, model.apply(variables, images.astype(jnp.float32))[0])


def test_the_mean_photograph_is_subtracted() -> None:
    model = make_classifier(model_options(**{"model.backbone.name": "none"}))
    variables = init(model, SIZE, 0)
    images = pictures()
    shifted = variables | {"constants": {"mean_image": jnp.full((*SIZE, 3), 10.0)}}
    expected = model.apply(variables, images.astype(jnp.float32) - 10)[0]
    np.testing.assert_allclose(model.apply(shifted, images)[0], expected, atol=1e-5)


def test_the_report_counts_layers_as_keras_does() -> None:
    """Report section 11: '3 layers' is `conv1_bn`, which ends before its activation: the head sees its ReLU."""
    by_number, by_name = (make_classifier(model_options(**{"model.backbone.cut": cut})) for cut in ("3", "conv1_bn"))
    variables = init(by_number, SIZE, 0)
    images = pictures()
    logits, points = by_number.apply(variables, images)
    np.testing.assert_array_equal(logits, by_name.apply(variables, images)[0])
    assert points["conv1_bn"].min() < 0
    head = by_number.head.apply(
        {name: variables[name]["head"] for name in ("params", "batch_stats")}, jax.nn.relu(points["conv1_bn"])
    )
    np.testing.assert_allclose(logits, head[0], atol=1e-6)


def test_only_a_head_on_photographs_has_a_stem() -> None:
    with_backbone = make_classifier(model_options())
    without = make_classifier(model_options(**{"model.backbone.name": "none"}))
    assert "stem" not in init(with_backbone, SIZE, 0)["params"]["head"]
    assert "stem" in init(without, SIZE, 0)["params"]["head"]


def test_an_unknown_cut_names_the_nearest() -> None:
    with pytest.raises(EndPointError, match="conv1_bn"):
        make_classifier(model_options(**{"model.backbone.cut": "conv1_bm"}))


@pytest.mark.parametrize("training", [None, TrainingPass()])
@pytest.mark.parametrize("trainable", ["none", "all", ("conv2",)])
def test_saliency_reaches_the_pixels_through_frozen_stages(trainable, training) -> None:
    changes = {"model.backbone.cut": "conv2_block1_1_relu", "model.backbone.trainable": trainable}
    model = make_classifier(model_options(**changes))
    variables = init(model, SIZE, 0)

    @jax.jit
    @jax.grad
    def saliency(images):
        return model.apply(variables, images, training=training, mutable=["batch_stats"])[0][0][0, 0]

    gradient = saliency(pictures().astype(jnp.float32))
    assert np.mean(np.asarray(gradient[0]) != 0) > 0.9
    if training is None:
        assert not np.any(gradient[1])


@pytest.mark.parametrize(
    "changes",
    [{"model.backbone.name": "none"}, {"model.name": "vanilla_cnn"}, {"model.backbone.cut": "3"}],
    ids=["none", "vanilla_cnn", "resnet50"],
)
def test_half_precision_computes_nearly_the_same_with_the_same_parameters(changes) -> None:
    """Eight bits of mantissa: a relative error of 0.4 % a layer, and up to fifteen layers."""
    single, half = (make_classifier(model_options(**changes, **{"model.dtype": t})) for t in ("float32", "bfloat16"))
    variables = init(half, SIZE, 0)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, init(single, SIZE, 0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    def loss(params, model):
        (logits, points), state = model.apply(
            variables | {"params": params}, pictures(8), training=TrainingPass(), mutable=["batch_stats"]
        )
        assert logits.dtype == points["features"].dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
        dtypes = {point.dtype for name, point in points.items() if point.ndim == 4}
        assert dtypes == {model.dtype}
        return jax.nn.log_softmax(logits)[:, 0].mean()

    gradients = [jax.jit(jax.value_and_grad(loss), static_argnums=1)(variables["params"], m) for m in (single, half)]
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], rtol=0.05)
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g["head"])]) for _, g in gradients)
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    assert cosine > 0.8  # 0.88 for fourteen batch norms over few pixels
