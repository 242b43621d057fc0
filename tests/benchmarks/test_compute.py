"""Arithmetic that is counted, the limit, memory and random batches; `test_benchmark.py` has step and prediction."""

import jax
import jax.numpy as jnp

from cervix_jax.benchmarks import compute


def test_flops_of_a_product_of_matrices_are_known() -> None:
    a, b = jnp.ones((30, 50)), jnp.ones((50, 70))
    assert compute.flops_of(jax.jit(jnp.matmul), a, b) == 2 * 30 * 50 * 70


def test_peak_is_a_speed() -> None:
    peak = compute.matmul_peak(3, side=128)
    assert peak["median"] > 0
    assert peak["spread"] >= 0


def test_memory_holds_at_least_the_interpreter() -> None:
    memory = compute.peak_memory()
    assert memory["peak_host_bytes"] > 10 << 20


def test_a_type_against_the_rest_has_two_classes(tiny_config) -> None:
    assert set(compute.random_batch(tiny_config, 50)["label"].tolist()) == {0, 1, 2}
    tiny_config.selection.one_vs_rest = "Type_1"
    assert set(compute.random_batch(tiny_config, 50)["label"].tolist()) == {0, 1}
