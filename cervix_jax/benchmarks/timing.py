"""Times of repeated work: the median and, as spread, the interquartile range, which one slow repeat does not move."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

Summary = dict[str, float]  # median, spread


def summary(values: Sequence[float]) -> Summary:
    """Median and interquartile range; of at least one value."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75)).tolist()
    return {"median": middle, "spread": high - low}


def seconds(work: Callable[[], Any]) -> float:
    """Duration of one call, until the devices have computed what it returns."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def repeated(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls."""
    return [seconds(work) for _ in range(repeats)]


def first_and_repeated(work: Callable[[], Any], repeats: int) -> tuple[float, list[float]]:
    """Seconds that the first call takes longer than the median of the following, to compile; and those of these."""
    first = seconds(work)
    others = repeated(work, repeats)
    return max(0.0, first - summary(others)["median"]), others


@contextmanager
def without_compilation_cache() -> Iterator[None]:
    """Compiles programs even if an earlier process has kept them, so that compilation can be measured."""
    configuration: Any = jax.config  # whose options its type does not list
    before = configuration.jax_enable_compilation_cache
    _enable_compilation_cache(enable=False)
    try:
        yield
    finally:
        _enable_compilation_cache(enable=before)


def _enable_compilation_cache(*, enable: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", enable)
    compilation_cache.reset_cache()  # JAX reads the option at the first compilation only
