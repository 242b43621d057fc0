"""Reading Keras' weights files: the right ones exactly, every wrong one refused with its reasons."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from random_networks import keras_cut, normal, random_tree, template, write_keras

from cervix_jax.errors import UserError
from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.resnet import RESNET50
from cervix_jax.models.weights.keras_h5 import read
from cervix_jax.models.weights.strict_loading import WeightsError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

CUT = "conv2_block1_out"
KERNEL, MEAN, VARIANCE = (
    "/conv1_conv/conv1_conv/kernel:0",
    "/conv1_bn/conv1_bn/moving_mean:0",
    "/conv1_bn/conv1_bn/moving_variance:0",
)


def load(path: Path, cut: str | int = CUT) -> Any:
    return read(path, RESNET50, template("resnet50", cut))


@pytest.fixture(scope="module")
def tree() -> Any:
    return random_tree(template("resnet50", CUT))


@pytest.fixture
def good(tmp_path: Path, tree: Any) -> Path:
    return write_keras(tmp_path / "good.h5", tree)


def replace(path: Path, name: str, **dataset: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, **dataset)


def refusal(path: Path, cut: str | int = CUT) -> str:
    with pytest.raises(WeightsError) as caught:
        load(path, cut)
    assert isinstance(caught.value, UserError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_array_arrives_where_it_belongs(good, tree):
    loaded = load(good)
    assert jax.tree.structure(loaded) == jax.tree.structure(template("resnet50", CUT))
    jax.tree.map(np.testing.assert_array_equal, loaded, tree)
    assert {(type(leaf), leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {(np.ndarray, np.dtype("float32"))}


def test_a_file_of_keras_gives_the_output_of_keras(tmp_path):
    model = keras_cut("resnet50", CUT)
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)

    x = normal(2, 33, 21, 3)
    ours, _ = Backbone(RESNET50, CUT).apply(load(tmp_path / "keras.h5"), x)
    theirs = np.asarray(model(x, training=False))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_an_early_cut_needs_only_the_first_layers(tmp_path, tree):
    first = {name: {k: v for k, v in part.items() if k.startswith("conv1")} for name, part in tree.items()}
    path = write_keras(tmp_path / "first.h5", first)
    jax.tree.map(np.testing.assert_array_equal, load(path, 3), first)

    with h5py.File(path, "a") as file:  # what lies beyond the cut is not even looked at
        file["conv2_block1_1_conv"] = h5py.ExternalLink("elsewhere.h5", "/")
        file.create_dataset("conv5_block3_3_conv/conv5_block3_3_conv/kernel:0", (2**20, 2**20), "f4")
    jax.tree.map(np.testing.assert_array_equal, load(path, 3), first)


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_other_float_types_are_read_as_float32(tmp_path, tree, dtype):
    path = write_keras(tmp_path / "other.h5", jax.tree.map(lambda leaf: leaf.astype(dtype), tree))
    for ours, theirs in zip(*map(jax.tree.leaves, (load(path), tree)), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_every_missing_and_misshapen_array_is_named_at_once(good):
    with h5py.File(good, "a") as file:
        del file["conv2_block1_0_bn"]
        del file["conv2_block1_2_conv/conv2_block1_2_conv/bias:0"]
    replace(good, KERNEL, data=np.zeros((3, 7, 7, 64), np.float32))
    replace(good, MEAN, data=np.zeros((), np.float32))
    message = refusal(good)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert f"conv2_block1_0_bn/{name}: missing, expected (256,)" in message
    assert "conv2_block1_2_conv/bias: missing, expected (64,)" in message
    assert "conv1_conv/kernel: expected (7, 7, 3, 64), found (3, 7, 7, 64)" in message
    assert "conv1_bn/moving_mean: expected (64,), found ()" in message
    assert len(message.splitlines()) == 8


def test_an_array_the_network_has_not_is_named(good):
    with h5py.File(good, "a") as file:
        file["conv1_conv/conv1_conv/depthwise_kernel:0"] = np.zeros(3, np.float32)
        file["conv1_conv/conv1_conv/bias"] = np.zeros(64, np.float32)  # a second one, as Keras 3 spells it
    message = refusal(good)
    assert "conv1_conv/depthwise_kernel:0: unexpected" in message
    assert "conv1_conv/bias: unexpected" in message
    assert len(message.splitlines()) == 3


def test_a_group_in_the_place_of_an_array_and_an_array_in_the_place_of_a_group(good):
    with h5py.File(good, "a") as file:
        del file[KERNEL], file["conv1_bn"]
        file.create_group(KERNEL)
        file["conv1_bn"] = np.zeros(64, np.float32)
    message = refusal(good)
    assert "conv1_conv/kernel: no array but Group" in message
    assert "conv1_bn/gamma: lies in no group but in a Dataset" in message


@pytest.mark.parametrize("dtype", ["i4", "S4", "c8", h5py.string_dtype(), np.dtype(("<f4", (2,)))])
def test_another_type_is_refused(good, dtype):
    replace(good, VARIANCE, shape=(64,), dtype=dtype)
    assert "conv1_bn/moving_variance: expected floating point" in refusal(good)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [KERNEL, MEAN])
def test_nan_and_infinity_are_refused(good, name, value):
    with h5py.File(good, "a") as file:
        file[name][(0,) * file[name].ndim] = value
    assert f"{name.split('/')[1]}/{name.split('/')[3][:-2]}: holds NaN or infinity" in refusal(good)


def test_a_double_beyond_float32_and_a_negative_variance_are_refused(good):
    replace(good, MEAN, data=np.full(64, 1e300))
    replace(good, VARIANCE, data=np.full(64, -1e-3, np.float32))
    message = refusal(good)
    assert "conv1_bn/moving_mean: holds NaN or infinity" in message
    assert "conv1_bn/moving_variance: holds a negative variance" in message


def test_what_is_declared_is_judged_before_anything_is_read(good, monkeypatch):
    replace(good, KERNEL, shape=(2**20, 2**20, 2**20), dtype="f4")  # 4 EiB, in a file of a few hundred kB
    replace(good, MEAN, shape=(2**31,), dtype="f4", chunks=(2**16,), compression="gzip", fillvalue=1.0)

    def read(*_: Any) -> None:
        raise AssertionError("read before it was judged")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    message = refusal(good)
    assert "conv1_conv/kernel: expected (7, 7, 3, 64), found (1048576, 1048576, 1048576)" in message
    assert "conv1_bn/moving_mean: expected (64,), found (2147483648,)" in message


def _external_link(file: h5py.File, other: Path) -> None:
    del file["conv1_conv"]
    file["conv1_conv"] = h5py.ExternalLink(str(other), "/conv1_conv")


def _external_link_to_an_array(file: h5py.File, other: Path) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink(str(other), KERNEL)


def _soft_link_to_an_external_link(file: h5py.File, other: Path) -> None:
    del file["conv1_conv"]
    file.create_group("pad")["outside"] = h5py.ExternalLink(str(other), "/conv1_conv")
    file["conv1_conv"] = h5py.SoftLink("/pad/outside")


def _dangling_link(file: h5py.File, other: Path) -> None:
    del file["conv1_conv"]
    file["conv1_conv"] = h5py.SoftLink("/nowhere")


def _external_storage(file: h5py.File, other: Path) -> None:
    del file[KERNEL]
    raw = other.with_suffix(".raw")
    raw.write_bytes(np.ones(7 * 7 * 3 * 64, np.float32).tobytes())
    file.create_dataset(KERNEL, (7, 7, 3, 64), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File, other: Path) -> None:
    del file[KERNEL]
    layout = h5py.VirtualLayout((7, 7, 3, 64), "f4")
    layout[:] = h5py.VirtualSource(str(other), KERNEL, (7, 7, 3, 64))
    file.create_virtual_dataset(KERNEL, layout)


def _compressed(file: h5py.File, other: Path) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, data=np.ones((7, 7, 3, 64), np.float32), compression="gzip")


def _never_written(file: h5py.File, other: Path) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (7, 7, 3, 64), "f4")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (_external_link, "a soft or external link"),
        (_external_link_to_an_array, "conv1_conv/kernel: a soft or external link"),
        (_soft_link_to_an_external_link, "a soft or external link"),
        (_dangling_link, "a soft or external link"),
        (_external_storage, "conv1_conv/kernel: chunked, compressed, virtual or kept in another file"),
        (_virtual, "conv1_conv/kernel: chunked, compressed, virtual or kept in another file"),
        (_compressed, "conv1_conv/kernel: chunked, compressed, virtual or kept in another file"),
        (_never_written, "conv1_conv/kernel: declares (7, 7, 3, 64) but was never written"),
    ],
)
def test_arrays_kept_anywhere_but_plainly_in_the_file_are_refused(
    good: Path, tmp_path: Path, tree: Any, plant: Callable[[h5py.File, Path], None], reason: str
):
    other = write_keras(tmp_path / "other.h5", tree)  # what is pointed at would fit
    with h5py.File(good, "a") as file:
        plant(file, other)
    message = refusal(good)
    lines = message.splitlines()[1:]
    assert lines
    for line in lines:
        assert "conv1_conv" in line
        assert reason in line


@pytest.mark.parametrize("content", [b"", b"not a weights file", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_no_hdf5_is_refused(tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    assert "cannot be read as an HDF5 file" in refusal(path)


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(good, kept):
    data = good.read_bytes()
    good.write_bytes(data[: int(kept * len(data))])
    refusal(good)


def test_a_template_of_another_kind_of_network_is_refused(good):
    shapes = copy.deepcopy(template("resnet50", 3))
    shapes["params"]["conv1_bn"]["alpha"] = jax.ShapeDtypeStruct((64,), jnp.float32)
    with pytest.raises(ValueError, match="params/conv1_bn/alpha has no counterpart"):
        read(good, RESNET50, shapes)


def test_what_the_network_has_not_is_named(good):
    with h5py.File(good, "a") as file:
        file["spare"] = np.zeros(3)
        file["deep/down/here/array:0"] = np.zeros(3)
        file["conv1_conv/other/kernel:0"] = np.zeros(3)
        file["conv6_block1_1_conv/conv6_block1_1_conv/kernel:0"] = np.zeros(3)
        file["link"] = h5py.SoftLink("/spare")
        file[b"bad\xff\x1b[2Jname"] = np.zeros(3)
        file.create_group("harmless/round")
        file["harmless/round/again"] = file["harmless"]  # a ring of groups, without arrays
        for classifier in ("predictions", "fc1000", "probs"):
            file[f"{classifier}/{classifier}/kernel:0"] = np.zeros(3)
    lines = refusal(good).encode("utf8").decode().splitlines()
    named = {line.split(":")[0].strip() for line in lines[1:]}
    assert named == {
        "spare",
        "deep",
        "conv1_conv/other",
        "conv6_block1_1_conv",
        "link",
        r"'bad\udcff\x1b[2Jname'",
    }


def test_a_truncated_name_of_a_layer_is_both_missing_and_unexpected(good):
    with h5py.File(good, "a") as file:
        file.move("conv1_bn", "conv1_b")
    message = refusal(good)
    assert "conv1_bn/gamma: missing" in message
    assert "conv1_b: unexpected" in message


INCEPTION_CUT = "mixed0"


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> tuple[Path, keras.Model]:
    """Inception-v3 of Keras as far as mixed0, every array random, and its file."""
    model = keras_cut("inception_v3", INCEPTION_CUT)
    path = tmp_path_factory.mktemp("inception") / "keras.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path, model


@pytest.fixture(scope="module")
def inception_output(inception) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(3).normal(0, 1, (1, 83, 79, 3)).astype(np.float32)
    return x, np.asarray(inception[1]([x], training=False))


def renumbered(path: Path, to: Path, convolution: int, norm: int) -> Path:
    """A copy of a file of a fresh Keras whose layers without names are counted from elsewhere."""
    with h5py.File(path) as old, h5py.File(to, "w") as new:
        for name in old:
            prefix, _, number = name.rpartition("_") if name[-1].isdigit() else (name, "", "0")
            if prefix in ("conv2d", "batch_normalization"):
                count = int(number) + (convolution if prefix == "conv2d" else norm)
                renamed = f"{prefix}_{count}" if count else prefix
                old.copy(old[name][name], new, f"{renamed}/{renamed}")
    return to


@pytest.mark.parametrize(("convolution", "norm"), [(0, 0), (1, 1), (95, 95), (9, 1)])
def test_inception_of_keras_gives_its_output_however_it_is_numbered(
    tmp_path, inception, inception_output, convolution, norm
):
    path = inception[0]
    with h5py.File(path) as file:
        assert {"conv2d", "conv2d_1", "conv2d_11", "batch_normalization"} <= set(file)
    if (convolution, norm) != (0, 0):
        path = renumbered(path, tmp_path / "renumbered.h5", convolution, norm)
    x, theirs = inception_output
    variables = read(path, INCEPTION_V3, template("inception_v3", INCEPTION_CUT))
    ours, _ = Backbone(INCEPTION_V3, INCEPTION_CUT).apply(variables, jnp.asarray(x))
    assert np.abs(theirs).max() > 1e-2
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_inception_says_what_is_missing_and_what_is_too_much_by_the_numbers_of_the_file(tmp_path, inception):
    path = renumbered(inception[0], tmp_path / "shifted.h5", 5, 1)
    with h5py.File(path, "a") as file:
        del file["conv2d_6"]  # the second convolution
        file["conv2d_200/conv2d_200/kernel:0"] = np.zeros(3)
        file["conv2d_098/conv2d_098/kernel:0"] = np.zeros(3)
        file["batch_normalization_2/batch_normalization_2/gamma:0"] = np.zeros(32)
        file["batch_normalization_94/batch_normalization_94/gamma:0"] = np.zeros(32)  # beyond the cut
    with pytest.raises(WeightsError) as caught:
        read(path, INCEPTION_V3, template("inception_v3", INCEPTION_CUT))
    lines = str(caught.value).splitlines()[1:]
    assert [line.strip() for line in sorted(lines)] == [
        "batch_normalization_2/gamma:0: unexpected, the network has no such array",
        "conv2d_098: unexpected, the network has no such array",
        "conv2d_200: unexpected, the network has no such array",
        "conv2d_6/kernel: missing, expected (3, 3, 32, 32)",
    ]


def test_later_layers_of_inception_arrive_where_they_belong(tmp_path):
    wanted = template("inception_v3", "mixed2")
    tree = random_tree(wanted)
    path = write_keras(tmp_path / "mixed2.h5", tree)
    jax.tree.map(np.testing.assert_array_equal, read(path, INCEPTION_V3, wanted), tree)
