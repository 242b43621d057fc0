"""Records of backbones: cuts by name and number, only what a cut needs, stages by name, where weights are."""

import difflib
import re
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.resnet import RESNET50
from cervix_jax.models.backbones.spec import EndPointError
from cervix_jax.models.weights.pretrained import FORMATS

CUTS = [(key, name) for key, architecture in BACKBONES.items() for name in architecture.end_points]


@given(st.sampled_from(CUTS))
def test_a_cut_needs_its_sources_and_theirs_and_nothing_else(cut) -> None:
    key, name = cut
    layers = {layer.name: layer for layer in BACKBONES[key].layers_up_to(name)}
    assert list(layers)[-1] == name
    sources = {source for layer in layers.values() for source in layer.sources}
    assert sources - {""} == set(layers) - {name}


@given(st.sampled_from(CUTS))
def test_numbers_names_and_digits_are_the_same_cut(cut) -> None:
    architecture = BACKBONES[cut[0]]
    number = architecture.first_number + architecture.end_points.index(cut[1])
    assert architecture.end_point(number) == architecture.end_point(str(number)) == architecture.end_point(cut[1])


@pytest.mark.parametrize(
    ("architecture", "number", "span"),
    [
        *((RESNET50, number, "2 to 173") for number in (-1, 0, 1, 174)),
        (INCEPTION_V3, 0, "1 to 310"),
    ],
)
def test_a_number_without_an_output_is_refused(architecture, number, span) -> None:
    with pytest.raises(EndPointError, match=f"no layer number {number}: .*{span}"):
        architecture.end_point(number)


@pytest.mark.parametrize("key", BACKBONES)
def test_an_unknown_name_is_answered_with_the_nearest(key) -> None:
    architecture = BACKBONES[key]
    misspelt = architecture.end_points[30][:-1] + "~"
    nearest = difflib.get_close_matches(misspelt, architecture.end_points, n=1, cutoff=0)[0]
    with pytest.raises(EndPointError, match=f"did you mean '{nearest}'"):
        architecture.end_point(misspelt)


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


@pytest.mark.parametrize(("key", "cut", "side"), [("inception_v3", "mixed10", 75), ("inception_v3", "conv2d_1", 3)])
def test_nothing_is_left_of_a_smaller_image(key, cut, side) -> None:
    """75 is also what Keras asks for."""
    architecture = BACKBONES[key]
    assert architecture.least_size(cut) == (side, side)

    def leaves_something(side: int) -> bool:
        images = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
        try:
            (features, _), _ = jax.eval_shape(Backbone(architecture, cut).init_with_output, jax.random.key(0), images)
        except (ValueError, ZeroDivisionError):  # from JAX, of empty arrays
            return False
        return min(features.shape[1:3]) >= 1

    assert [leaves_something(side - 1), leaves_something(side)] == [False, True]


def test_a_padded_network_takes_any_size() -> None:
    assert RESNET50.least_size("conv5_block3_out") == (1, 1)


def test_unknown_stages_and_those_beyond_the_cut_are_named() -> None:
    with pytest.raises(EndPointError, match="no stage 'conv9' in ResNet-50 v1; did you mean 'conv"):
        RESNET50.trained_stages(["conv9"], "conv3_block2_out")
    with pytest.raises(EndPointError, match="'conv4' lies beyond the cut at 'conv3_block2_out'"):
        RESNET50.trained_stages("conv4", "conv3_block2_out")


def test_every_backbone_has_a_published_file_behind_https_with_a_digest_and_a_reader():
    files = [architecture.weights for architecture in BACKBONES.values()]
    for file in files:
        assert file.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert 50e6 < file.num_bytes < 200e6
        assert Path(file.file_name).name == file.file_name
        assert Path(file.file_name).suffix == Path(file.url).suffix
        assert file.format in FORMATS
    for field in ("url", "sha256", "file_name"):
        assert len({getattr(file, field) for file in files}) == len(files)
