"""Times of repeated work: the median, and as spread the interquartile range, which one slow repeat does not move."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

Summary = dict[str, float]  # median, spread


def summary(values: Sequence[float]) -> Summary:
    """Median and interquartile range of one number or more."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75)).tolist()
    return {"median": middle, "spread": high - low}


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes, until the devices have computed what it returns."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def repeated(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of several calls."""
    return [seconds(work) for _ in range(repeats)]


def first_and_repeated(work: Callable[[], Any], repeats: int) -> tuple[float, list[float]]:
    """Seconds to compile, which is what the first call takes longer than the others, and those of the others."""
    first = seconds(work)
    others = repeated(work, repeats)
    return max(0.0, first - summary(others)["median"]), others


@contextmanager
def everything_compiled() -> Iterator[None]:
    """Leaves aside the programs that earlier processes compiled and kept, so that compiling is measured."""
    configuration: Any = jax.config  # whose options its type does not name
    before = configuration.jax_enable_compilation_cache
    _use_kept_programs(use=False)
    try:
        yield
    finally:
        _use_kept_programs(use=before)


def _use_kept_programs(*, use: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", use)
    compilation_cache.reset_cache()  # or JAX would go on with what it decided at the process's first compilation
