"""Names and shapes of topologies, and the least time that all-reduces take."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.errors import UserError
from cervix_jax.planning.topologies import CHIPS, Topology


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("v5e:16x16", (16, 16)),
        ("v4:4x4x4", (4, 4, 4)),
        ("v5p:2x2", (2, 2, 1)),
        ("h100:8", (1, 8)),
        ("h100:4x8", (4, 8)),
    ],
)
def test_names(name: str, shape: tuple[int, ...]) -> None:
    topology = Topology.parse(name)
    assert topology.shape == shape
    assert topology.size == math.prod(shape)
    assert Topology.parse(topology.name) == topology


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e", "v5e:16x16"),
        ("v9:2x2", "the kinds are v4"),
        ("v5e:0x2", "examples"),
        ("v5e:16", "v5e:AxB"),
        ("v4:4x4x4x4", "v4:AxBxC"),
        ("h100:9", "up to 8"),
        ("cpu:2x2", "cpu:N"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Topology.parse(name)


@pytest.mark.parametrize(("kind", "package", "extra"), [("v6e:2x4", "libtpu", "tpu"), ("h100:8", "xla_cuda13", "cuda")])
def test_a_missing_library_is_named_with_its_extra(kind, package, extra, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{package} is needed.*\.\[{extra}\]"):
        Topology.parse(kind).devices()


def test_the_host_has_only_so_many_devices() -> None:
    with pytest.raises(UserError, match="JAX_NUM_CPU_DEVICES=999"):
        Topology.parse("cpu:999").devices()


def test_smaller_topologies_are_the_slices_that_are_offered() -> None:
    names = [topology.name.removeprefix("v5e:") for topology in Topology.parse("v5e:16x16").smaller()]
    assert names == ["1x1", "1x2", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"]
    hosts = [topology.shape for topology in Topology.parse("h100:4x8").smaller()]
    assert hosts == [(1, 1), (1, 2), (1, 4), (1, 8), (2, 8), (4, 8)]  # a host is filled before there is another


def test_large_exchanges_take_as_long_as_the_links_need() -> None:
    """Each byte crosses a ring twice, less what stays: 2 (n - 1) / n, over all links of a chip at once."""
    size = 10**9
    torus = Topology.parse("v5e:16x16").all_reduce_seconds(1, size)
    assert torus == pytest.approx(2 * 255 / 256 * size / (400e9 / 2))  # published for both directions, all four links
    line = Topology.parse("v5e:2x2").all_reduce_seconds(1, size)  # no rings: half of the links
    assert line == pytest.approx(2 * 3 / 4 * size / (400e9 / 4))
    cube = Topology.parse("v5p:4x4x4").all_reduce_seconds(1, size)
    assert cube == pytest.approx(2 * 63 / 64 * size / (1200e9 / 2))
    host = Topology.parse("h100:8").all_reduce_seconds(1, size)
    assert host == pytest.approx(2 * 7 / 8 * size / 450e9)


def test_small_exchanges_take_as_long_as_the_hops() -> None:
    assert Topology.parse("v5e:16x16").all_reduce_seconds(3, 4) == pytest.approx(3 * 2 * (8 + 8) * 1e-6)
    assert Topology.parse("v5e:4x8").all_reduce_seconds(1, 4) == pytest.approx(2 * (3 + 7) * 1e-6)


@given(st.sampled_from(["v4:4x4x4", "v5e:16x16", "v6e:8x8", "v5p:2x2x4", "h100:4x8"]), st.integers(1, 10**9))
def test_exchanges_take_longer_the_more_there_is(name: str, size: int) -> None:
    topology = Topology.parse(name)
    one = topology.all_reduce_seconds(1, size)
    assert 0 < one <= topology.all_reduce_seconds(1, 2 * size)
    assert topology.all_reduce_seconds(5, size) == pytest.approx(5 * one)
    assert next(topology.smaller()).all_reduce_seconds(1, size) == 0  # one device speaks with nobody


def test_published_figures_are_in_one_unit() -> None:
    for chip in CHIPS.values():
        assert 1e14 < chip.flops["float32"] <= chip.flops["bfloat16"] < 1e15
        assert 1.6e10 <= chip.memory < 2e11
        assert 8e11 < chip.bandwidth < 4e12
        assert 4e10 < chip.link < 1e12
