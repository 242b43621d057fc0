"""Medians, spreads, and the time of compilation."""

import jax
import pytest

from cervix_jax.benchmarks import timing


def test_one_slow_repeat_changes_neither_median_nor_spread() -> None:
    assert timing.summary([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "spread": 2.0}
    assert timing.summary([1.0, 2.0, 3.0, 4.0, 500.0]) == {"median": 3.0, "spread": 2.0}
    assert timing.summary([7.0]) == {"median": 7.0, "spread": 0.0}


class Clock:
    """Seconds that pass only when work is done."""

    def __init__(self, monkeypatch):
        self.now = 5.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def work(self, durations):
        remaining = iter(durations)

        def do() -> None:
            self.now += next(remaining)

        return do


def test_each_repeat_is_timed(monkeypatch) -> None:
    assert timing.repeated(Clock(monkeypatch).work([2.0, 0.5, 4.0]), 3) == [2.0, 0.5, 4.0]


def test_compilation_is_what_the_first_call_takes_longer(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    assert timing.first_and_repeated(clock.work([10.0, 1.0, 3.0, 2.0]), 3) == (8.0, [1.0, 3.0, 2.0])
    assert timing.first_and_repeated(clock.work([1.0, 2.0]), 1) == (0.0, [2.0])


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
