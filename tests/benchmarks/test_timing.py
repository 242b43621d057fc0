"""Medians, spreads, and the time of compilation."""

import time

import jax
import pytest

from cervix_jax.benchmarks import timing


def test_one_slow_repeat_changes_neither_median_nor_spread() -> None:
    assert timing.summary([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "spread": 2.0}
    assert timing.summary([1.0, 2.0, 3.0, 4.0, 500.0]) == {"median": 3.0, "spread": 2.0}
    assert timing.summary([7.0]) == {"median": 7.0, "spread": 0.0}


def test_seconds_are_at_least_what_the_work_takes() -> None:
    times = timing.repeated(lambda: time.sleep(0.01), 3)
    assert len(times) == 3
    assert min(times) >= 0.01


def test_compilation_is_what_the_first_call_takes_longer() -> None:
    calls = []

    def work() -> None:
        calls.append(None)
        time.sleep(0.2 if len(calls) == 1 else 0.0)

    compile_seconds, times = timing.first_and_repeated(work, 4)
    assert len(times) == len(calls) - 1 == 4
    assert compile_seconds > 0.1
    assert timing.first_and_repeated(lambda: None, 1)[0] >= 0


@pytest.mark.parametrize("error", [None, ValueError])
def test_the_compilation_cache_is_used_again_afterwards(error) -> None:
    before = jax.config.jax_enable_compilation_cache
    try:
        with timing.without_compilation_cache():
            assert not jax.config.jax_enable_compilation_cache
            if error:
                raise error
    except ValueError:
        pass
    assert jax.config.jax_enable_compilation_cache == before
