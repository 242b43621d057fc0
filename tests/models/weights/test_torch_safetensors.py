"""Reading torchvision's weights from safetensors: the right ones exactly, every wrong one refused with its reasons."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_tree, template
from safetensors import safe_open
from safetensors.numpy import save_file

from cervix_jax.errors import UserError
from cervix_jax.models.backbones.resnet import RESNET50_V1_5
from cervix_jax.models.weights import torch_safetensors
from cervix_jax.models.weights.strict_loading import WeightsError
from cervix_jax.models.weights.torch_safetensors import expected_keys, read

CUT = "conv2_block1_out"
# Of torchvision's resnet50().state_dict(): its names, and where they belong.
BELONGS = {
    "conv1.weight": ("params", "conv1_conv", "kernel"),
    "bn1.weight": ("params", "conv1_bn", "scale"),
    "bn1.bias": ("params", "conv1_bn", "bias"),
    "bn1.running_mean": ("batch_stats", "conv1_bn", "mean"),
    "bn1.running_var": ("batch_stats", "conv1_bn", "var"),
    "layer1.0.downsample.0.weight": ("params", "conv2_block1_0_conv", "kernel"),
    "layer1.0.downsample.1.weight": ("params", "conv2_block1_0_bn", "scale"),
    "layer1.0.downsample.1.bias": ("params", "conv2_block1_0_bn", "bias"),
    "layer1.0.downsample.1.running_mean": ("batch_stats", "conv2_block1_0_bn", "mean"),
    "layer1.0.downsample.1.running_var": ("batch_stats", "conv2_block1_0_bn", "var"),
    **{
        f"layer1.0.{ours.format(n)}.{theirs}": (collection, f"conv2_block1_{n}_{kind}", name)
        for n in (1, 2, 3)
        for ours, theirs, collection, kind, name in (
            ("conv{}", "weight", "params", "conv", "kernel"),
            ("bn{}", "weight", "params", "bn", "scale"),
            ("bn{}", "bias", "params", "bn", "bias"),
            ("bn{}", "running_mean", "batch_stats", "bn", "mean"),
            ("bn{}", "running_var", "batch_stats", "bn", "var"),
        )
    },
}


def as_torch(tree: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for key, (collection, layer, name) in BELONGS.items():
        array = tree[collection][layer][name]
        arrays[key] = np.ascontiguousarray(array.transpose(3, 2, 0, 1) if name == "kernel" else array)
    return arrays


@pytest.fixture(scope="module")
def tree() -> Any:
    return random_tree(template("resnet50_v1_5", CUT))


@pytest.fixture
def arrays(tree: Any) -> dict[str, np.ndarray]:
    return as_torch(tree)


def load(path: Path, cut: str | int = CUT) -> Any:
    return read(path, RESNET50_V1_5, template("resnet50_v1_5", cut))


def refusal(path: Path, arrays: dict[str, np.ndarray] | None = None) -> str:
    if arrays is not None:
        save_file(arrays, path)
    with pytest.raises(WeightsError) as caught:
        load(path)
    assert isinstance(caught.value, UserError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def raw(path: Path, header: dict[str, Any] | bytes, data: bytes, length: int | None = None) -> Path:
    """A file by hand: length of the header, header, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def test_every_array_arrives_where_it_belongs(path, arrays, tree):
    save_file(arrays, path, metadata={"format": "pt"})
    loaded = load(path)
    assert len(jax.tree.leaves(tree)) == len(BELONGS)
    assert jax.tree.structure(loaded) == jax.tree.structure(template("resnet50_v1_5", CUT))
    jax.tree.map(np.testing.assert_array_equal, loaded, tree)
    assert {(type(leaf), leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {(np.ndarray, np.dtype("float32"))}


def test_later_stages_are_named_as_torchvision_names_them():
    keys = set(expected_keys(RESNET50_V1_5))
    # torchvision's resnet50 has 320 entries: 53 convolutions, 53 batch norms of 5, the classifier's 2.
    assert len(keys) == 53 + 53 * 5 + 2
    assert {"layer2.3.conv3.weight", "layer3.5.bn2.running_var", "layer4.0.downsample.1.bias", "fc.weight"} <= keys
    assert {"layer4.2.bn3.num_batches_tracked", "layer3.0.downsample.0.weight"} <= keys
    assert not {"layer2.4.conv1.weight", "layer4.3.conv1.weight", "layer1.1.downsample.0.weight"} & keys


def test_an_early_cut_needs_only_the_first_layers(path, arrays, tree):
    first = {key: value for key, value in arrays.items() if key.startswith(("conv1", "bn1"))}
    wanted = {name: {k: v for k, v in part.items() if k.startswith("conv1")} for name, part in tree.items()}
    save_file(first, path)
    jax.tree.map(np.testing.assert_array_equal, load(path, 3), wanted)

    first["layer4.2.conv3.weight"] = np.zeros(3, np.int64)  # what lies beyond the cut is not looked at
    first["layer1.0.conv1.weight"] = np.full((2, 2), np.nan, np.float32)
    save_file(first, path)
    jax.tree.map(np.testing.assert_array_equal, load(path, 3), wanted)


def test_the_classifier_and_counts_of_batches_are_left_aside(path, arrays, tree):
    for key in [key for key in arrays if key.endswith("running_mean")]:
        arrays[key.replace("running_mean", "num_batches_tracked")] = np.array(7)
    arrays |= {"fc.weight": np.zeros((5, 2048), np.float32), "fc.bias": np.zeros(5, np.float32)}
    save_file(arrays, path)
    jax.tree.map(np.testing.assert_array_equal, load(path), tree)


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_float_types_are_read_as_float32(path, arrays, tree, dtype):
    save_file({key: value.astype(dtype) for key, value in arrays.items()}, path)
    for ours, theirs in zip(*map(jax.tree.leaves, (load(path), tree)), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_missing_misshapen_and_unexpected_arrays_are_all_named_at_once(path, arrays):
    del arrays["layer1.0.bn2.running_var"], arrays["bn1.weight"]
    arrays["conv1.weight"] = np.ones((7, 7, 3, 64), np.float32)  # as Keras lays it out
    arrays["layer1.0.downsample.1.bias"] = np.ones((), np.float32)
    arrays["layer1.0.conv1.bias"] = np.ones(64, np.float32)
    arrays["layer5.0.conv1.weight"] = np.ones(3, np.float32)
    arrays["odd\nname\x1b[2J"] = np.ones(3, np.float32)
    lines = refusal(path, arrays).splitlines()[1:]
    assert sorted(line.strip() for line in lines) == [
        r"'odd\nname\x1b[2J': unexpected, the network has no such array",
        "bn1.weight: missing, expected (64,)",
        "conv1.weight: expected (64, 3, 7, 7), found (7, 7, 3, 64)",
        "layer1.0.bn2.running_var: missing, expected (64,)",
        "layer1.0.conv1.bias: unexpected, the network has no such array",
        "layer1.0.downsample.1.bias: expected (256,), found ()",
        "layer5.0.conv1.weight: unexpected, the network has no such array",
    ]


def test_a_square_kernel_transposed_the_wrong_way_would_show(path, arrays, tree):
    save_file(arrays, path)
    kernel = load(path)["params"]["conv2_block1_2_conv"]["kernel"]  # 3 x 3, 64 to 64: its shape tells nothing
    torch = arrays["layer1.0.conv2.weight"]
    assert kernel[0, 2, 5, 7] == torch[7, 5, 0, 2]


@pytest.mark.parametrize("dtype", ["i4", "i8", "u1", "?"])
def test_another_type_is_refused(path, arrays, dtype):
    arrays["bn1.running_var"] = np.ones(64, dtype)
    assert "bn1.running_var: expected one of F16, F32, F64, found" in refusal(path, arrays)


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("C64", 8)])
def test_types_that_numpy_lacks_or_networks_do_are_refused(path, dtype, size):
    raw(path, {"bn1.running_var": {"dtype": dtype, "shape": [64], "data_offsets": [0, 64 * size]}}, bytes(64 * size))
    assert f"bn1.running_var: expected one of F16, F32, F64, found {dtype}" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_infinity_and_negative_variances_are_refused(path, arrays, value):
    arrays["conv1.weight"][3, 2, 1, 0] = value
    arrays["layer1.0.bn1.running_var"][63] = -1e-3
    arrays["bn1.bias"] = np.full(64, 1e300)
    lines = refusal(path, arrays).splitlines()[1:]
    assert sorted(line.strip() for line in lines) == [
        "bn1.bias: holds NaN or infinity",
        "conv1.weight: holds NaN or infinity",
        "layer1.0.bn1.running_var: holds a negative variance",
    ]


class HeaderOnly:
    """A safetensors file that cannot be read beyond its header."""

    def __init__(self, path: Path, framework: str) -> None:
        self.file = safe_open(path, framework=framework)

    def __enter__(self) -> "HeaderOnly":
        self.keys, self.get_slice = self.file.keys, self.file.get_slice
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_tensor(self, key: str) -> None:
        pytest.fail(f"{key} was read before all arrays were checked")


def test_every_declaration_is_checked_before_any_array_is_read(path, arrays, monkeypatch):
    arrays["conv1.weight"] = np.zeros((0, 2**50), np.float32)
    arrays["bn1.bias"] = np.full(63, np.nan, np.float32)
    monkeypatch.setattr(torch_safetensors, "safe_open", HeaderOnly)
    message = refusal(path, arrays)
    assert "conv1.weight: expected (64, 3, 7, 7), found (0, 1125899906842624)" in message
    assert "bn1.bias: expected (64,), found (63,)" in message


def _entry(shape: list[Any], start: int = 0, end: int = 4) -> dict[str, Any]:
    return {"conv1.weight": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}}


@pytest.mark.parametrize(
    "header",
    [
        _entry([2**20, 2**20]),
        _entry([2**62, 2**62]),
        _entry([-1]),
        _entry(["1"]),
        _entry([1], 0, 2**40),
        _entry([1], 4, 8),
        _entry([1], 4, 0),
        _entry([1]) | {"bn1.bias": _entry([1])["conv1.weight"]},  # both in the same bytes
        {"conv1.weight": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"conv1.weight": 3},
        b"{",
        b"[]",
        b"{}}",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_headers_that_lie_are_refused(path, header):
    raw(path, header, bytes(4))
    assert "cannot be read as a safetensors file" in refusal(path)


@pytest.mark.parametrize("length", [10_000_001, 2**32, 2**63, 2**64 - 1])
def test_a_header_too_large_is_refused_before_the_file_is_opened(path, length, monkeypatch):
    monkeypatch.setattr(torch_safetensors, "safe_open", lambda *_, **__: pytest.fail("opened"))
    raw(path, b"{}", b"", length)
    assert f"declares a header of {length} bytes" in refusal(path)


def test_a_header_of_more_than_the_file_is_refused(path):
    raw(path, b"{}", b"", 10_000_000)
    assert "cannot be read as a safetensors file" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"\2", b"not a weights file", bytes(8), bytes(100)])
def test_a_file_that_is_no_safetensors_is_refused(path, content):
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(path, arrays, kept):
    save_file(arrays, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert "cannot be read as a safetensors file" in refusal(path)


def test_a_longer_file_is_refused(path, arrays):
    save_file(arrays, path)
    path.write_bytes(path.read_bytes() + b"more")
    assert "cannot be read as a safetensors file" in refusal(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, bytes]:
    tree = random_tree(template("resnet50_v1_5", CUT))
    path = tmp_path_factory.mktemp("small") / "weights.safetensors"
    save_file({key: value for key, value in as_torch(tree).items() if key.startswith(("conv1", "bn1"))}, path)
    return path, path.read_bytes()


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(small, damage):
    path, content = small
    damaged = bytearray(content)
    for offset, byte in damage:
        damaged[offset] = byte
    path.write_bytes(damaged)
    wanted = template("resnet50_v1_5", 3)
    try:
        loaded = read(path, RESNET50_V1_5, wanted)
    except WeightsError:
        return
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, wanted)


def test_a_template_of_another_kind_of_network_is_refused(path, arrays):
    save_file(arrays, path)
    shapes = {"params": {"conv1_bn": {"alpha": jax.ShapeDtypeStruct((64,), np.float32)}}}
    with pytest.raises(ValueError, match="params/conv1_bn/alpha has no counterpart"):
        read(path, RESNET50_V1_5, shapes)
