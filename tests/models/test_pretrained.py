"""Reading Keras' weights files: the right ones exactly, every wrong one refused with its reasons."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

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
from PIL import Image

from cervix_jax.errors import UserError
from cervix_jax.models import resnet
from cervix_jax.models.pretrained import PREPROCESSING, Preprocessing, WeightsError, load_keras_h5
from cervix_jax.models.resnet import ResNet50

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, NumPy 2

SHARED = Path(os.environ.get("CERVIX_JAX_SHARED", Path(__file__).parents[3] / "shared"))
REAL = SHARED / "weights" / "keras_resnet50_notop_conv1_to_conv3.h5"
PHOTOGRAPHS = SHARED / "data" / "kaggle" / "train"
CUT = "conv2_block1_out"
KERNEL, MEAN, VARIANCE = (
    "/conv1_conv/conv1_conv/kernel:0",
    "/conv1_bn/conv1_bn/moving_mean:0",
    "/conv1_bn/conv1_bn/moving_variance:0",
)


def template(cut: str | int = CUT) -> Any:
    return jax.eval_shape(ResNet50(cut).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def random_tree(shapes: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes)


def write(path: Path, tree: Any) -> Path:
    """Writes the published layout by hand: /LAYER/LAYER/NAME:0."""
    with h5py.File(path, "w") as file:
        for layer, arrays in tree["params"].items():
            for name, value in arrays.items():
                keras_name = name if "kernel" in arrays else {"scale": "gamma", "bias": "beta"}[name]
                file[f"{layer}/{layer}/{keras_name}:0"] = value
        for layer, arrays in tree.get("batch_stats", {}).items():
            file[f"{layer}/{layer}/moving_mean:0"] = arrays["mean"]
            file[f"{layer}/{layer}/moving_variance:0"] = arrays["var"]
        file.create_group("conv1_pad")  # Keras writes a group for layers without weights, too
    return path


@pytest.fixture(scope="module")
def tree() -> Any:
    return random_tree(template())


@pytest.fixture
def good(tmp_path: Path, tree: Any) -> Path:
    return write(tmp_path / "good.h5", tree)


def replace(path: Path, name: str, **dataset: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, **dataset)


def refusal(path: Path, shapes: Any = None) -> str:
    with pytest.raises(WeightsError) as caught:
        load_keras_h5(path, template() if shapes is None else shapes)
    assert isinstance(caught.value, UserError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_array_arrives_where_it_belongs(good, tree):
    loaded = load_keras_h5(good, template())
    assert jax.tree.structure(loaded) == jax.tree.structure(template())
    jax.tree.map(np.testing.assert_array_equal, loaded, tree)
    assert {(type(leaf), leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {(np.ndarray, np.dtype("float32"))}


def test_a_file_of_keras_gives_the_output_of_keras(tmp_path):
    whole = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(None, None, 3))
    model = keras.Model(whole.inputs, whole.get_layer(CUT).output)
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.uniform(0, 0.3, w.shape) for w in model.get_weights()])
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)

    x = jnp.asarray(rng.normal(0, 1, (2, 33, 21, 3)), jnp.float32)
    ours, _ = ResNet50(CUT).apply(load_keras_h5(tmp_path / "keras.h5", template()), x)
    theirs = np.asarray(model(x, training=False))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_an_early_cut_needs_only_the_first_layers(tmp_path, tree):
    first = {name: {k: v for k, v in part.items() if k.startswith("conv1")} for name, part in tree.items()}
    path = write(tmp_path / "first.h5", first)
    jax.tree.map(np.testing.assert_array_equal, load_keras_h5(path, template(3)), first)

    with h5py.File(path, "a") as file:  # what lies beyond the cut is not even looked at
        file["conv2_block1_1_conv"] = h5py.ExternalLink("elsewhere.h5", "/")
        file.create_dataset("conv5_block3_3_conv/conv5_block3_3_conv/kernel:0", (2**20, 2**20), "f4")
    jax.tree.map(np.testing.assert_array_equal, load_keras_h5(path, template(3)), first)


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_other_float_types_are_read_as_float32(tmp_path, tree, dtype):
    path = write(tmp_path / "other.h5", jax.tree.map(lambda leaf: leaf.astype(dtype), tree))
    for ours, theirs in zip(*map(jax.tree.leaves, (load_keras_h5(path, template()), tree)), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_every_missing_and_misshapen_array_is_named_at_once(good):
    with h5py.File(good, "a") as file:
        del file["conv2_block1_0_bn"]
        del file["conv2_block1_2_conv/conv2_block1_2_conv/bias:0"]
    replace(good, KERNEL, data=np.zeros((3, 7, 7, 64), np.float32))
    replace(good, MEAN, data=np.zeros((), np.float32))
    message = refusal(good)
    assert "conv2_block1_0_bn: missing, expected" in message
    assert "conv2_block1_2_conv/bias: missing, expected (64,)" in message
    assert "conv1_conv/kernel: expected (7, 7, 3, 64), found (3, 7, 7, 64)" in message
    assert "conv1_bn/moving_mean: expected (64,), found ()" in message
    assert len(message.splitlines()) == 5


def test_an_array_the_network_has_not_is_named(good):
    with h5py.File(good, "a") as file:
        file["conv1_conv/conv1_conv/depthwise_kernel:0"] = np.zeros(3, np.float32)
        file["conv1_conv/conv1_conv/bias"] = np.zeros(64, np.float32)  # a second one, as Keras 3 spells it
    message = refusal(good)
    assert "conv1_conv/depthwise_kernel:0: unexpected" in message
    assert "conv1_conv/bias" in message
    assert len(message.splitlines()) == 3


def test_a_group_in_the_place_of_an_array_and_an_array_in_the_place_of_a_group(good):
    with h5py.File(good, "a") as file:
        del file[KERNEL], file["conv1_bn"]
        file.create_group(KERNEL)
        file["conv1_bn"] = np.zeros(64, np.float32)
    message = refusal(good)
    assert "conv1_conv/kernel: no array but Group" in message
    assert "conv1_bn: " in message


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
    file["conv1_conv"] = h5py.ExternalLink(str(other), "/conv1_conv")


def _external_link_to_an_array(file: h5py.File, other: Path) -> None:
    file["conv1_conv/conv1_conv/bias:0"] = file["spare"][()]
    file[KERNEL] = h5py.ExternalLink(str(other), KERNEL)


def _soft_link_to_an_external_link(file: h5py.File, other: Path) -> None:
    file["outside"] = h5py.ExternalLink(str(other), "/conv1_conv")
    file["conv1_conv"] = h5py.SoftLink("/outside")


def _dangling_link(file: h5py.File, other: Path) -> None:
    file["conv1_conv"] = h5py.SoftLink("/nowhere")


def _external_storage(file: h5py.File, other: Path) -> None:
    file["conv1_conv/conv1_conv/bias:0"] = file["spare"][()]
    raw = other.with_suffix(".raw")
    raw.write_bytes(np.ones(7 * 7 * 3 * 64, np.float32).tobytes())
    file.create_dataset(KERNEL, (7, 7, 3, 64), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File, other: Path) -> None:
    file["conv1_conv/conv1_conv/bias:0"] = file["spare"][()]
    layout = h5py.VirtualLayout((7, 7, 3, 64), "f4")
    layout[:] = h5py.VirtualSource(str(other), KERNEL, (7, 7, 3, 64))
    file.create_virtual_dataset(KERNEL, layout)


def _compressed(file: h5py.File, other: Path) -> None:
    file["conv1_conv/conv1_conv/bias:0"] = file["spare"][()]
    file.create_dataset(KERNEL, data=np.ones((7, 7, 3, 64), np.float32), compression="gzip")


def _never_written(file: h5py.File, other: Path) -> None:
    file["conv1_conv/conv1_conv/bias:0"] = file["spare"][()]
    file.create_dataset(KERNEL, (7, 7, 3, 64), "f4")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (_external_link, "conv1_conv: a soft or external link"),
        (_external_link_to_an_array, "conv1_conv/kernel: a soft or external link"),
        (_soft_link_to_an_external_link, "conv1_conv: a soft or external link"),
        (_dangling_link, "conv1_conv: a soft or external link"),
        (_external_storage, "conv1_conv/kernel: chunked, compressed, virtual or kept in another file"),
        (_virtual, "conv1_conv/kernel: chunked, compressed, virtual or kept in another file"),
        (_compressed, "conv1_conv/kernel: chunked, compressed, virtual or kept in another file"),
        (_never_written, "conv1_conv/kernel: declares (7, 7, 3, 64) but was never written"),
    ],
)
def test_arrays_kept_anywhere_but_plainly_in_the_file_are_refused(
    good: Path, tmp_path: Path, tree: Any, plant: Callable[[h5py.File, Path], None], reason: str
):
    other = write(tmp_path / "other.h5", tree)  # what is pointed at would fit
    with h5py.File(good, "a") as file:
        file["spare"] = file["conv1_conv/conv1_conv/bias:0"][()]
        del file["conv1_conv"]
        plant(file, other)
    message = refusal(good)
    assert reason in message
    assert len(message.splitlines()) == 2


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


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*absent\.h5"):
        load_keras_h5(tmp_path / "absent.h5", template())
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_keras_h5(tmp_path, template())
    with pytest.raises(UserError):  # so that a program prints the message without a traceback
        load_keras_h5(tmp_path / "absent.h5", template())


def test_a_template_of_another_kind_of_network_is_refused(good):
    shapes = copy.deepcopy(template(3))
    shapes["params"]["conv1_bn"]["alpha"] = jax.ShapeDtypeStruct((64,), jnp.float32)
    with pytest.raises(ValueError, match="params/conv1_bn/alpha has no counterpart"):
        load_keras_h5(good, shapes)


@pytest.mark.parametrize("name", ["caffe", "torch", "tf"])
def test_preprocessing_is_that_of_keras(name):
    x = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    theirs = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format="channels_last", mode=name)
    np.testing.assert_allclose(PREPROCESSING[name](jnp.asarray(x)), theirs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(PREPROCESSING[name](jnp.asarray(x[0])), theirs[0], rtol=1e-4, atol=1e-4)


def test_identity_leaves_the_pixels_alone_and_names_are_keys():
    x = jnp.arange(24.0).reshape(2, 4, 3)
    np.testing.assert_array_equal(PREPROCESSING["identity"](x), x)
    assert all(key == value.name for key, value in PREPROCESSING.items())
    with pytest.raises(ValueError, match="channel order"):
        Preprocessing("odd", "GBR", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.skipif(not REAL.exists(), reason="the published weights are not here: set CERVIX_JAX_SHARED")
def test_the_published_file_loads_and_stops_where_it_ends():
    loaded = load_keras_h5(REAL, template("conv3_block4_out"))
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, template("conv3_block4_out"))
    with h5py.File(REAL, "r") as file:
        np.testing.assert_array_equal(loaded["params"]["conv1_conv"]["kernel"], file[KERNEL][()])
    message = refusal(REAL, template("conv4_block1_1_bn"))
    assert "conv4_block1_1_conv: missing" in message
    assert "conv4_block1_1_bn: missing" in message
    assert len(message.splitlines()) == 3


@pytest.mark.skipif(
    not (REAL.exists() and PHOTOGRAPHS.exists()),
    reason="the published weights or the photographs are not here: set CERVIX_JAX_SHARED",
)
def test_real_photographs_have_the_statistics_the_weights_were_trained_on(monkeypatch):
    """Each batch norm's stored mean and variance are what its input had on ImageNet, so they tell.

    The channel means of `conv1_conv` alone do not: its input is centred, so they are the photographs' colour.
    """
    paths = sorted(PHOTOGRAPHS.glob("Type_[123]/*.jpg"))[::180][:8]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((320, 240))) for path in paths])
    rgb = jnp.asarray(pixels, jnp.float32)

    right = _statistics("conv3_block4_out", PREPROCESSING["caffe"](rgb))
    wrong = {name: _statistics("conv1_bn", PREPROCESSING[name](rgb)) for name in ("torch", "tf", "identity")}
    wrong["swapped"] = _statistics("conv1_bn", PREPROCESSING["caffe"](rgb[..., ::-1]))
    monkeypatch.setattr(resnet, "_LAYERS", tuple(map(_stride_on_the_3x3, resnet._LAYERS)))
    strided = _statistics("conv3_block2_1_bn", PREPROCESSING["caffe"](rgb))

    means = {name: np.corrcoef(s["mean"], s["stored mean"])[0, 1] for name, s in right.items()}
    assert min(means[name] for name in ("conv2_block1_1_bn", "conv2_block3_2_bn", "conv3_block4_3_bn")) > 0.95
    assert np.mean([_divergence(s) for s in right.values()]) < 0.15
    for name, statistics in wrong.items():  # preprocessing and channel order, at the first batch norm
        assert 1.1 * _divergence(right["conv1_bn"]) < _divergence(statistics["conv1_bn"]), name
    for name in ("conv3_block1_2_bn", "conv3_block1_3_bn", "conv3_block2_1_bn"):
        assert 1.2 * _divergence(right[name]) < _divergence(strided[name]), name


def _statistics(cut: str, x: jax.Array) -> dict[str, dict[str, np.ndarray]]:
    """Of each batch norm: the mean and variance of its input's channels here, and those stored."""
    variables = load_keras_h5(REAL, template(cut))

    @jax.jit
    def here(variables: Any, x: jax.Array) -> dict[str, dict[str, jax.Array]]:
        _, points = ResNet50(cut).apply(variables, x)
        inputs = {name: points[name.replace("_bn", "_conv")] for name in variables["batch_stats"]}
        return {name: {"mean": v.mean((0, 1, 2)), "var": v.var((0, 1, 2))} for name, v in inputs.items()}

    found = jax.tree.map(np.asarray, here(variables, x))
    for name, stored in variables["batch_stats"].items():
        found[name] |= {"stored mean": stored["mean"], "stored var": stored["var"]}
    return found


def _divergence(s: dict[str, np.ndarray]) -> float:
    """Kullback-Leibler, from the stored Gaussian of a channel to the one found; the median channel's."""
    ratio = (s["var"] + 1e-5) / (s["stored var"] + 1e-5)  # some channels are dead
    shift = (s["mean"] - s["stored mean"]) ** 2 / (s["stored var"] + 1e-5)
    return float(np.median(0.5 * (ratio - np.log(ratio) - 1 + shift)))


def _stride_on_the_3x3(layer: Any) -> Any:
    """The mistake to notice: version 1.5, as torchvision has it."""
    if layer.name.endswith("_block1_1_conv"):
        return layer._replace(stride=1)
    if layer.name.endswith("_block1_2_conv") and not layer.name.startswith("conv2"):
        return layer._replace(stride=2)
    return layer
