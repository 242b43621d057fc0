"""Arithmetic that is counted, and the figures of step and prediction."""

import jax
import jax.numpy as jnp
import pytest

from cervix_jax.speed import devices


def test_flops_of_a_product_of_matrices_are_known() -> None:
    a, b = jnp.ones((30, 50)), jnp.ones((50, 70))
    assert devices.flops_of(jax.jit(jnp.matmul), a, b) == 2 * 30 * 50 * 70


def test_peak_is_a_speed() -> None:
    peak = devices.matmul_peak(3, side=128)
    assert peak["median"] > 0
    assert peak["spread"] >= 0


def test_memory_holds_at_least_the_interpreter() -> None:
    memory = devices.peak_memory()
    assert memory["peak_host_bytes"] > 10 << 20


def test_a_step_that_is_a_program_a_device_is_counted_too(tiny_config, monkeypatch) -> None:
    monkeypatch.setitem(devices._SIDES, "cpu", 256)
    tiny_config.parallel = "pmap"
    tiny_config.model.widths, tiny_config.model.blocks = (4,), (1,)
    found = devices.step(tiny_config, 2)
    assert found["flops_per_step"] > 1e6
    assert 0 < found["fraction_of_limit"] < 1.5
    assert found["images_per_second"]["median"] > 0
    assert found["compile_seconds"] >= 0


def test_flops_of_a_step_grow_with_the_batch(tiny_config) -> None:
    few = devices.Work(tiny_config).flops()
    tiny_config.batch_size *= 2
    assert devices.Work(tiny_config).flops() == pytest.approx(2 * few, rel=0.1)


def test_a_type_against_the_rest_has_two_classes(tiny_config) -> None:
    assert set(devices.random_batch(tiny_config, 50)["label"].tolist()) == {0, 1, 2}
    tiny_config.selection.one_vs_rest = "Type_1"
    assert set(devices.random_batch(tiny_config, 50)["label"].tolist()) == {0, 1}
