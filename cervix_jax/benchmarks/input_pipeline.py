"""Whether photographs arrive as fast as the training step takes them."""

import time
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from cervix_jax.benchmarks import timing
from cervix_jax.benchmarks.compute import Work, device_name
from cervix_jax.datasets import pipeline
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.training.mesh import shard_batch


def feed(config: ml_collections.ConfigDict, repeats: int) -> dict[str, Any]:
    """The input pipeline with the training step behind it: the first, decoding batches, then those from memory.

    Every step is waited for, so what `next` takes is time in which the devices stand idle; training itself also
    overlaps that with one step.
    """
    examples = load_dataset(config).examples("train")
    batches = pipeline.training_batches(examples, config)
    work = Work(config)
    jax.block_until_ready(work.train())
    alone = timing.repeated(work.train, repeats)
    cold = _run(work, batches, max(1, min(repeats, len(examples) // config.batch_size)))
    start = time.perf_counter()
    for i in range(len(examples)):
        examples.image(i)
    filling = time.perf_counter() - start
    _run(work, batches, 2 * config.dataset.num_threads)  # batches that were begun before, or while, memory was filled
    warm = _run(work, batches, repeats)
    limit = timing.summary([config.batch_size / t for t in alone])
    parts = {name: _figures(times, config.batch_size) for name, times in (("cold", cold), ("warm", warm))}
    speed = parts["warm"]["images_per_second"]
    return {
        "what": "input",
        "device": device_name(),
        "batch_size": config.batch_size,
        "images_per_second": speed,
        **parts,
        "rest_of_first_pass_seconds": filling,
        "limit": {"what": "the step alone, on a batch that is on the devices", "images_per_second": limit},
        "fraction_of_limit": speed["median"] / limit["median"],
    }


def _run(work: Work, batches: grain.DatasetIterator, steps: int) -> Float[np.ndarray, "steps 3"]:
    """Seconds of waiting for a batch, of moving it to the devices and of computing, a row a step."""
    rows = []
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        came = time.perf_counter()
        placed = jax.block_until_ready(shard_batch(batch, work.mesh))
        moved = time.perf_counter()
        jax.block_until_ready(work.train(placed))
        rows.append((came - start, moved - came, time.perf_counter() - moved))
    return np.array(rows)


def _figures(times: Float[np.ndarray, "steps 3"], batch_size: int) -> dict[str, Any]:
    names = ("wait_milliseconds", "transfer_milliseconds", "step_milliseconds")
    return {
        "steps": len(times),
        "images_per_second": timing.summary((batch_size / times.sum(1)).tolist()),
        "waited_percent": float(100 * times[:, 0].sum() / times.sum()),
        **{name: timing.summary((1e3 * column).tolist()) for name, column in zip(names, times.T, strict=True)},
    }
