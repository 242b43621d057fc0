"""Training step and prediction on the devices, against their fastest multiplication of matrices.

Weights are random and so are the images: neither changes what has to be computed.
"""

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from cervix_jax.benchmarks import timing
from cervix_jax.config import num_classes
from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.training.forward import make_forward, predict_logits
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import make_mesh, replicated, shard_batch
from cervix_jax.training.optimizer import make_optimizer
from cervix_jax.training.state import Variables, create_state
from cervix_jax.training.step import make_train_step

PEAK = "product of square float32 matrices, on all devices, at the precision that the network computes with"
_SIDES = {"cpu": 2048}  # of the matrices: large enough for full speed, small enough to take a moment
_SIDE = 8192


def device_name() -> str:
    """How many devices of what kind JAX computes on."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


class Work:
    """A run's training step, on random weights.

    Attributes:
      batch: random images, on the devices; what `train` steps on if it is given no other.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        self._config, self.mesh = config, make_mesh()
        self._model, variables = _model_and_variables(config)
        self._tx = make_optimizer(config.optimizer, 1000)
        self._step = make_train_step(self._model, self._tx, config, self.mesh)
        state = create_state(variables, self._tx, self._model.trained_layers)
        self._state = jax.device_put(state, replicated(self.mesh))
        self.batch = shard_batch(random_batch(config, config.batch_size), self.mesh)

    def train(self, batch: Mapping[str, jax.Array] | None = None) -> Any:
        """One step; returns the new state, which may not be computed yet."""
        self._state = self._step(self._state, dict(self.batch if batch is None else batch))
        return self._state

    def flops(self) -> float:
        """Of one step over all devices."""
        config = self._config.copy_and_resolve_references()
        config.parallel = "jit"  # the same arithmetic, as one program that can be analysed
        return flops_of(make_train_step(self._model, self._tx, config, self.mesh), self._state, self.batch)


def step(config: ml_collections.ConfigDict, repeats: int) -> dict[str, Any]:
    """The training step on a batch that is on the devices already."""
    with timing.everything_compiled():
        work = Work(config)
        compiling, times = timing.first_and_repeated(work.train, repeats)
    memory = peak_memory()  # before the large matrices
    flops, peak = work.flops(), matmul_peak(repeats)
    return {
        "what": "step",
        "device": device_name(),
        "batch_size": config.batch_size,
        "images_per_second": timing.summary([config.batch_size / t for t in times]),
        "step_milliseconds": timing.summary([1e3 * t for t in times]),
        "compile_seconds": compiling,
        "flops_per_step": flops,
        "limit": {"what": PEAK, "flops_per_second": peak},
        "fraction_of_limit": flops / timing.summary(times)["median"] / peak["median"],
        **memory,
    }


def predict(config: ml_collections.ConfigDict, repeats: int) -> dict[str, Any]:
    """Photographs in the host's memory to logits in the host's memory, many at a time and one at a time."""
    model, variables = _model_and_variables(config)
    variables = jax.device_put(variables, replicated(make_mesh()))
    sizes = {"batch": config.eval_batch_size, "single": 1}
    measured = {name: _predict(config, model, variables, size, repeats) for name, size in sizes.items()}
    memory = peak_memory()
    peak = matmul_peak(repeats)
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
    config: ml_collections.ConfigDict, model: Classifier, variables: Variables, size: int, repeats: int
) -> tuple[dict[str, Any], float]:
    """Figures, and floating-point operations of a batch."""
    mesh, batch, forward = make_mesh(), random_batch(config, size), make_forward(model)
    with timing.everything_compiled():
        compiling, times = timing.first_and_repeated(lambda: predict_logits(forward, variables, [batch], mesh), repeats)
    row = {
        "batch_size": size,
        "images_per_second": timing.summary([size / t for t in times]),
        "milliseconds": timing.summary([1e3 * t for t in times]),
        "compile_seconds": compiling,
    }
    return row, flops_of(forward, variables, batch["image"])


def matmul_peak(repeats: int, side: int | None = None) -> timing.Summary:
    """Floating-point operations a second that all devices together reach in a product of square matrices.

    Args:
      repeats: products to time.
      side: of the matrices; None for one that suits the devices.
    """
    side = side or _SIDES.get(jax.default_backend(), _SIDE)
    matrices = [jax.device_put(jnp.ones((side, side)), device) for device in jax.local_devices()]
    square = jax.jit(jnp.matmul)

    def multiply() -> list[jax.Array]:
        return [square(matrix, matrix) for matrix in matrices]

    _, times = timing.first_and_repeated(multiply, repeats)
    return timing.summary([2.0 * side**3 * jax.device_count() / t for t in times])


def flops_of(jitted: Any, *arguments: Any) -> float:
    """Multiplications and additions of a jitted function, as XLA counts them before it optimises.

    In the forms that accelerators compile: `models.cpu_forms` has loops, of which XLA counts one round.
    """
    return float(jitted.trace(*arguments).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"])


def peak_memory() -> dict[str, int | None]:
    """The most memory that this process has held, on the host and, where devices tell, on all of them together."""
    unit = 1 if sys.platform == "darwin" else 1024
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in statistics if "peak_bytes_in_use" in s]
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_host_bytes": host, "peak_device_bytes": sum(peaks) if peaks else None}


def random_batch(config: ml_collections.ConfigDict, size: int) -> dict[str, np.ndarray]:
    """Noise and labels in the form of a training batch."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, *config.dataset.image_size, 3), dtype=np.uint8),
        "label": rng.integers(0, num_classes(config), size, dtype=np.int32),
        "index": np.arange(size, dtype=np.int32),
        "mask": np.ones(size, bool),
    }


def _model_and_variables(config: ml_collections.ConfigDict) -> tuple[Classifier, Variables]:
    model = make_classifier(config.model.to_dict(), num_classes(config))
    make: Callable[..., Variables] = jax.jit(init_variables, static_argnums=(0, 1, 2))
    return model, make(model, tuple(config.dataset.image_size), config.seed)
