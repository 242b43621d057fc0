"""Whether the input pipeline delivers images as fast as the training step takes them."""

import time
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
from jaxtyping import Float

from cervix_jax.benchmarks import timing
from cervix_jax.benchmarks.compute import Trainer, device_name
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.pipeline import training_batches
from cervix_jax.training.mesh import shard_batch


def feed(config: ml_collections.ConfigDict, repeats: int) -> dict[str, Any]:
    """Measures the input pipeline feeding the training step: first batches that are decoded, then ones from memory.

    Every step is waited for, so the devices are idle while `next` runs; training itself overlaps it with one step.
    """
    examples = load_dataset(config).examples("train")
    batches = training_batches(examples, config)
    trainer = Trainer(config)
    jax.block_until_ready(trainer.step())
    alone = timing.repeated(trainer.step, repeats)
    cold = _train(trainer, batches, max(1, min(repeats, len(examples) // config.batch_size)))
    start = time.perf_counter()
    for _ in examples.images:
        pass
    fill_seconds = time.perf_counter() - start
    _train(trainer, batches, 2 * config.dataset.num_threads)  # batches that were prefetched while images were decoded
    warm = _train(trainer, batches, repeats)
    limit = timing.summary([config.batch_size / t for t in alone])
    metrics = {name: _metrics(times, config.batch_size) for name, times in (("cold", cold), ("warm", warm))}
    speed = metrics["warm"]["images_per_second"]
    return {
        "what": "input",
        "device": device_name(),
        "batch_size": config.batch_size,
        "images_per_second": speed,
        **metrics,
        "rest_of_first_pass_seconds": fill_seconds,
        "limit": {"what": "the step alone, on a batch that is on the devices", "images_per_second": limit},
        "fraction_of_limit": speed["median"] / limit["median"],
    }


def _train(trainer: Trainer, batches: grain.DatasetIterator, steps: int) -> Float[np.ndarray, "steps 3"]:
    """Seconds of each step spent waiting for a batch, transferring it to the devices and computing."""
    rows = []
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        received = time.perf_counter()
        shards = jax.block_until_ready(shard_batch(batch, trainer.setup.mesh))
        transferred = time.perf_counter()
        jax.block_until_ready(trainer.step(shards))
        rows.append((received - start, transferred - received, time.perf_counter() - transferred))
    return np.array(rows)


def _metrics(times: Float[np.ndarray, "steps 3"], batch_size: int) -> dict[str, Any]:
    names = ("wait_milliseconds", "transfer_milliseconds", "step_milliseconds")
    return {
        "steps": len(times),
        "images_per_second": timing.summary((batch_size / times.sum(1)).tolist()),
        "waited_percent": float(100 * times[:, 0].sum() / times.sum()),
        **{name: timing.summary((1e3 * column).tolist()) for name, column in zip(names, times.T, strict=True)},
    }
