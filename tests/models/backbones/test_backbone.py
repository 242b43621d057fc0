"""What every backbone promises: cuts by name and number, only what the cut needs, stages frozen or trained."""

import difflib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.models.backbones.backbone import Architecture, Backbone, EndPointError
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.resnet import RESNET50
from cervix_jax.models.classifier import ARCHITECTURES
from cervix_jax.models.layers import TrainingPass

NAMES = [(key, name) for key, architecture in ARCHITECTURES.items() for name in architecture.end_points]


def shapes(module: Backbone) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 96, 96, 3)))


def images(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(0, 50, (*shape, 3)), jnp.float32)


@given(st.sampled_from(NAMES))
def test_a_cut_needs_its_sources_and_theirs_and_nothing_else(cut) -> None:
    architecture = ARCHITECTURES[cut[0]]
    needed = {layer.name: layer for layer in architecture.needed(cut[1])}
    assert list(needed)[-1] == cut[1]
    read = {source for layer in needed.values() for source in layer.sources}
    assert read - {""} == set(needed) - {cut[1]}


@given(st.sampled_from(NAMES))
def test_numbers_names_and_digits_are_the_same_cut(cut) -> None:
    architecture = ARCHITECTURES[cut[0]]
    number = architecture.first_number + architecture.end_points.index(cut[1])
    assert architecture.end_point(number) == architecture.end_point(str(number)) == architecture.end_point(cut[1])


@pytest.mark.parametrize(
    ("architecture", "number", "span"),
    [(RESNET50, -1, "2 to 173"), (RESNET50, 1, "2 to 173"), (RESNET50, 174, "2 to 173"), (INCEPTION_V3, 0, "1 to 310")],
)
def test_a_number_without_an_output_is_refused(architecture, number, span) -> None:
    with pytest.raises(EndPointError, match=f"no layer number {number}: .*{span}"):
        architecture.end_point(number)


@pytest.mark.parametrize("key", ARCHITECTURES)
def test_an_unknown_name_is_answered_with_the_nearest(key) -> None:
    architecture = ARCHITECTURES[key]
    name = architecture.end_points[30]
    misspelt = name[:-1] + "~"
    nearest = difflib.get_close_matches(misspelt, architecture.end_points, n=1, cutoff=0)[0]
    with pytest.raises(EndPointError, match=f"did you mean '{nearest}'"):
        architecture.end_point(misspelt)
    with pytest.raises(ValueError, match="did you mean"):
        Backbone(architecture, misspelt).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


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
    module = Backbone(architecture, cut)
    needed, tree = architecture.needed(cut), shapes(module)
    assert set(tree["params"]) == {layer.name for layer in needed if layer.kind in ("conv", "bn")}
    assert set(tree.get("batch_stats", {})) == {layer.name for layer in needed if layer.kind == "bn"}
    features, points = jax.eval_shape(module.apply, tree, jnp.zeros((2, 96, 99, 3)))
    assert set(points) == {layer.name for layer in needed}
    assert features == points[architecture.end_point(cut)]


@pytest.mark.parametrize(
    ("trainable", "stages"),
    [
        ("none", ()),
        ((), ()),
        ("all", ("conv1", "conv2", "conv3")),
        ("conv3", ("conv3",)),
        (["conv3", "conv1"], ("conv1", "conv3")),
        ("conv2, conv3", ("conv2", "conv3")),
    ],
)
def test_stages_are_trained_by_name(trainable, stages) -> None:
    assert RESNET50.trained_stages(trainable, "conv3_block2_out") == stages


def test_stages_that_are_not_there_are_named() -> None:
    with pytest.raises(EndPointError, match="no stage 'conv9' in ResNet-50 v1; did you mean 'conv"):
        RESNET50.trained_stages(["conv9"], "conv3_block2_out")
    with pytest.raises(EndPointError, match="'conv4' lies beyond the cut at 'conv3_block2_out'"):
        RESNET50.trained_stages("conv4", "conv3_block2_out")


def test_frozen_stages_keep_their_statistics_and_trained_ones_follow_the_batch() -> None:
    module, x = Backbone(RESNET50, "conv2_block1_1_relu", trained=("conv2",)), images(2, 17, 23)
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


def test_computing_in_bfloat16_keeps_the_parameters_float32() -> None:
    module = Backbone(RESNET50, "conv2_block1_out")
    tree = shapes(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    features, _ = jax.eval_shape(module.apply, tree, jnp.zeros((1, 32, 32, 3), jnp.bfloat16))
    assert features.dtype == jnp.bfloat16
