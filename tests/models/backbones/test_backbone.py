"""What every backbone promises: only what its cut needs is built, stages are frozen or trained, costs, input pixels."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from random_networks import normal, shapes

from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone, preprocess
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.backbones.spec import CAFFE, TF, TORCH, Architecture
from cervix_jax.models.layers import TrainingPass


@pytest.mark.parametrize(
    ("architecture", "cut"),
    [
        (RESNET50, "conv1_conv"),
        (RESNET50, 3),
        (RESNET50, 12),
        (RESNET50, 20),
        (INCEPTION_V3, 3),
        (INCEPTION_V3, "mixed0"),
    ],
)
def test_only_what_the_cut_needs_is_built(architecture: Architecture, cut) -> None:
    layers, tree = architecture.layers_up_to(cut), shapes(architecture, cut)
    assert set(tree["params"]) == {layer.name for layer in layers if layer.kind in ("conv", "bn")}
    assert set(tree.get("batch_stats", {})) == {layer.name for layer in layers if layer.kind == "bn"}
    features, points = jax.eval_shape(Backbone(architecture, cut).apply, tree, jnp.zeros((2, 96, 99, 3)))
    assert set(points) == {layer.name for layer in layers}
    assert features == points[architecture.end_point(cut)]


def test_an_unknown_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'conv1_bn'"):
        Backbone(RESNET50, "conv1_bm").init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_frozen_stages_keep_their_statistics_and_trained_ones_follow_the_batch() -> None:
    module, x = Backbone(RESNET50, "conv2_block1_1_relu", trained=("conv2",)), normal(2, 17, 23, 3, scale=50)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)  # no zero or one to hide behind
    (_, points), state = module.apply(variables, x, training=TrainingPass(), mutable=["batch_stats"])
    _, stored = module.apply(variables, x)

    np.testing.assert_array_equal(points["pool1_pool"], stored["pool1_pool"])
    old, new = variables["batch_stats"], state["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, new["conv1_bn"], old["conv1_bn"])
    conv = np.asarray(points["conv2_block1_1_conv"], np.float64)
    mean, var = conv.mean((0, 1, 2)), conv.var((0, 1, 2))
    name, params = "conv2_block1_1_bn", variables["params"]["conv2_block1_1_bn"]
    np.testing.assert_allclose(new[name]["mean"], 0.9 * old[name]["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(new[name]["var"], 0.9 * old[name]["var"] + 0.1 * var, rtol=1e-4)
    expected = (conv - mean) / np.sqrt(var + 1.001e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(points[name], expected, rtol=1e-3, atol=1e-3)
    assert not np.allclose(points[name], stored[name], rtol=1e-2)

    frozen = Backbone(RESNET50, "conv2_block1_1_relu", trained=("conv2",), frozen_norm=True)
    (_, points), state = frozen.apply(variables, x, training=TrainingPass(), mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, state.get("batch_stats", old), old)
    np.testing.assert_array_equal(points[name], stored[name])


def test_computing_in_bfloat16_keeps_the_parameters_float32() -> None:
    tree = shapes(RESNET50, "conv2_block1_out")
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    module = Backbone(RESNET50, "conv2_block1_out")
    features, _ = jax.eval_shape(module.apply, tree, jnp.zeros((1, 32, 32, 3), jnp.bfloat16))
    assert features.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("architecture", "cut", "size", "parameters", "multiplications"),
    [
        # He et al. 2016, table 1: 3.8e9 with the classifier; keras.applications: 23,587,712 with running statistics.
        (RESNET50, "conv5_block3_out", 224, 23_587_712 - 53_120, 3.8e9),
        # torchvision: 25,557,032 and 4.09e9 with the classifier's 2,049,000 (no running statistics counted).
        (RESNET50_V1_5, "conv5_block3_out", 224, 25_557_032 - 2_049_000, 4.09e9),
        # keras.applications: 21,802,784 with running statistics; torchvision: 5.71e9.
        (INCEPTION_V3, "mixed10", 299, 21_802_784 - 34_432, 5.71e9),
    ],
    ids=BACKBONES,
)
def test_networks_cost_what_is_published(architecture, cut, size, parameters, multiplications) -> None:
    variables, image = shapes(architecture, cut), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    forward = jax.jit(lambda variables, image: Backbone(architecture, cut).apply(variables, image)[0])
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    lowered = forward.lower(variables, image)
    # XLA does not count multiplications with padding.
    assert lowered.cost_analysis()["flops"] == pytest.approx(2 * multiplications, rel=0.05)
    assert lowered.out_info.shape == (1, *{224: (7, 7), 299: (8, 8)}[size], 2048)


@pytest.mark.parametrize("preprocessing", [CAFFE, TORCH, TF], ids=lambda preprocessing: preprocessing.name)
def test_preprocessing_is_that_of_keras(preprocessing):
    x = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    theirs = keras.applications.imagenet_utils.preprocess_input(
        x.copy(), data_format="channels_last", mode=preprocessing.name
    )
    np.testing.assert_allclose(preprocess(jnp.asarray(x), preprocessing), theirs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(preprocess(jnp.asarray(x[0]), preprocessing), theirs[0], rtol=1e-4, atol=1e-4)
