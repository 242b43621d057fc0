"""Speed of the training step and of prediction on the devices, against their fastest matmul.

Weights and images are random: neither changes what has to be computed.
"""

import resource
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from cervix_jax.benchmarks import timing
from cervix_jax.config import num_classes
from cervix_jax.training.forward import Forward, compute_outputs, make_forward
from cervix_jax.training.mesh import make_mesh, shard_batch
from cervix_jax.training.setup import TrainSetup, make_setup
from cervix_jax.training.state import TrainState, Variables

PEAK = "product of square matrices, on all devices, of the dtype that the network computes with"
_STEPS_PER_EPOCH = 1000  # for the learning rate alone
_SIDES = {"cpu": 2048}  # of the matrices: large enough for full speed, small enough to be quick
_DEFAULT_SIDE = 8192


class Trainer:
    """A run's training step, with its state.

    Attributes:
      setup: of the run.
      batch: random images on the devices, which `step` trains on by default.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        self.setup = _make_setup(config)
        self.batch = shard_batch(random_batch(config, config.batch_size), self.setup.mesh)
        self._state = self.setup.random_state()

    def step(self, batch: Mapping[str, jax.Array] | None = None) -> TrainState:
        """Trains one step; returns the new state, which may not be computed yet."""
        self._state = self.setup.train_step(self._state, dict(self.batch if batch is None else batch))
        return self._state

    def flops(self) -> float:
        """Floating-point operations of one step on all devices."""
        config = self.setup.config.copy_and_resolve_references()
        config.parallel = "jit"  # the same arithmetic, as one program that can be analysed
        return flops_of(_make_setup(config).train_step, self._state, self.batch)


def step(config: ml_collections.ConfigDict, repeats: int) -> dict[str, Any]:
    """Measures the training step on a batch that is on the devices already."""
    with timing.without_compilation_cache():
        trainer = Trainer(config)
        compile_seconds, times = timing.first_and_repeated(trainer.step, repeats)
    memory = peak_memory()  # before the large matrices
    flops, peak = trainer.flops(), matmul_peak(repeats, dtype=config.model.dtype)
    return {
        "what": "step",
        "device": device_name(),
        "batch_size": config.batch_size,
        "images_per_second": timing.summary([config.batch_size / t for t in times]),
        "step_milliseconds": timing.summary([1e3 * t for t in times]),
        "compile_seconds": compile_seconds,
        "flops_per_step": flops,
        "limit": {"what": PEAK, "flops_per_second": peak},
        "fraction_of_limit": flops / timing.summary(times)["median"] / peak["median"],
        **memory,
    }


def predict(config: ml_collections.ConfigDict, repeats: int) -> dict[str, Any]:
    """Measures prediction from images to logits, both in the host's memory, for a batch and for a single image."""
    setup = _make_setup(config)
    variables, forward = setup.random_state().variables(), make_forward(setup.model)
    sizes = {"batch": config.eval_batch_size, "single": 1}
    measured = {name: _predict(setup, forward, variables, size, repeats) for name, size in sizes.items()}
    memory = peak_memory()
    peak = matmul_peak(repeats, dtype=config.model.dtype)
    fractions = {
        name: flops / row["milliseconds"]["median"] * 1e3 / peak["median"] for name, (row, flops) in measured.items()
    }
    return {
        "what": "predict",
        "device": device_name(),
        **{name: row | {"fraction_of_limit": fractions[name]} for name, (row, _) in measured.items()},
        "limit": {"what": PEAK, "flops_per_second": peak},
        "fraction_of_limit": fractions["batch"],
        **memory,
    }


def _predict(
    setup: TrainSetup, forward: Forward, variables: Variables, size: int, repeats: int
) -> tuple[dict[str, Any], float]:
    """Times of a batch of `size` images, and its floating-point operations."""
    batch = random_batch(setup.config, size)
    with timing.without_compilation_cache():
        compile_seconds, times = timing.first_and_repeated(
            lambda: compute_outputs(forward, variables, [batch], setup.mesh), repeats
        )
    row = {
        "batch_size": size,
        "images_per_second": timing.summary([size / t for t in times]),
        "milliseconds": timing.summary([1e3 * t for t in times]),
        "compile_seconds": compile_seconds,
    }
    return row, flops_of(forward, variables, batch["image"])


def _make_setup(config: ml_collections.ConfigDict) -> TrainSetup:
    return make_setup(config, make_mesh(), num_classes(config), _STEPS_PER_EPOCH)


def matmul_peak(repeats: int, side: int | None = None, dtype: str = "float32") -> timing.Summary:
    """Floating-point operations per second of all devices together in a product of square matrices.

    Args:
      repeats: products to time.
      side: of the matrices; None for one that suits the devices.
      dtype: in which the network computes.
    """
    side = side or _SIDES.get(jax.default_backend(), _DEFAULT_SIDE)
    matrices = [jax.device_put(jnp.ones((side, side), dtype), device) for device in jax.local_devices()]
    matmul = jax.jit(jnp.matmul)
    _, times = timing.first_and_repeated(lambda: [matmul(matrix, matrix) for matrix in matrices], repeats)
    return timing.summary([2.0 * side**3 * jax.device_count() / t for t in times])


def flops_of(jitted: Any, *arguments: Any) -> float:
    """Floating-point operations of a jitted function, as XLA counts them before it optimises.

    Lowered for accelerators: on CPU, `models.cpu_ops` has loops, of which XLA counts one iteration.
    """
    return float(jitted.trace(*arguments).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"])


def peak_memory() -> dict[str, int | None]:
    """Peak bytes of this process on the host and, where devices report it, on all of them together."""
    unit = 1 if sys.platform == "darwin" else 1024
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_host_bytes": host, "peak_device_bytes": sum(peaks) if peaks else None}


def random_batch(config: ml_collections.ConfigDict, size: int) -> dict[str, np.ndarray]:
    """A training batch of noise with random labels, on the host."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((size, 2, 2), np.float32), axis=1)
    extras = {"box": corners.reshape(size, 4)} if config.task == "localise" else {}
    if config.dataset.readers:
        extras["target"] = rng.dirichlet(np.ones(num_classes(config)), size).astype(np.float32)
    return extras | {
        "image": rng.integers(0, 256, (size, *config.dataset.image_size, 3), dtype=np.uint8),
        "label": rng.integers(0, num_classes(config), size, dtype=np.int32),
        "index": np.arange(size, dtype=np.int32),
        "mask": np.ones(size, bool),
    }


def device_name() -> str:
    """Number and kind of JAX's devices."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
