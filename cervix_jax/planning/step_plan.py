"""Compiles the training step for a topology, and says what it will need there.

The step is the one that `train` runs, from `training.step`, on shapes instead of arrays; nothing is computed.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cervix_jax.benchmarks.compute import flops_of
from cervix_jax.config import ConfigError, num_classes
from cervix_jax.errors import UserError
from cervix_jax.models.classifier import make_classifier
from cervix_jax.planning.hlo import Collective, Program
from cervix_jax.planning.topologies import Topology
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import AXIS, make_mesh, replicated
from cervix_jax.training.optimizer import make_optimizer
from cervix_jax.training.state import TrainState, create_state
from cervix_jax.training.step import make_train_step

GROWTH = 4  # the second batch that is compiled to see how memory grows, as a multiple of the first
GRANULE = 8  # batches of a device are whole multiples of this
CLOSE = 0.05  # of the largest batch, as a fraction of it


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step compiled for a batch on each device; bytes of one device."""

    memory: dict[str, int]
    program: Program

    @property
    def total(self) -> int:
        return sum(self.memory.values())


def plan(
    config: ml_collections.ConfigDict,
    topology: Topology,
    *,
    largest: bool = True,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What a training step of a config needs on a topology.

    Args:
      config: of the run; `batch_size` is that of all devices together.
      topology: to compile for.
      largest: whether to look for the largest batch that fits, which compiles some more times.
      log: told what is being done.

    Returns:
      `topology`, `devices`, `batch_size`, `batch_per_device`; `bytes_per_device` by kind, and their `total`;
      `flops_per_step` over all devices, as XLA counts them before it compiles; `memory_traffic_per_device`: bytes that
      a step reads and writes; `collectives`: `count`, `bytes` that a device puts in, `by_kind`, and the `largest` one;
      `gradient_bytes`. Where figures of the chip are published and all exchanges are all-reduces, also `estimate`:
      the time of a step, and `weak_scaling`: the same for smaller topologies with as large a batch a device. With
      `largest`, `largest_batch_per_device`.

    Raises:
      ConfigError: the layout cannot be compiled ahead, or the batch does not divide over the devices.
      UserError: the topology cannot be made here, or the step does not fit its devices.
    """
    if config.parallel != "jit":
        raise ConfigError(f"config.parallel is {config.parallel!r}; only the step of 'jit' can be compiled ahead")
    if config.batch_size % topology.size:
        raise ConfigError(
            f"config.batch_size {config.batch_size} does not divide over {topology.size} devices; "
            "--batch_per_device gives each as many"
        )
    mesh = make_mesh(topology.devices())
    per_device = config.batch_size // topology.size
    log(f"compiling the step for {topology.size} devices, {per_device} images each")
    compiled = _compile(config, mesh, topology.usable_memory)
    if compiled is None:
        raise UserError(
            f"a batch of {per_device} images a device does not fit {topology.kind}; try a smaller "
            "--config.batch_size, --config.accumulate or --config.model.remat"
        )
    flops = _flops(config, per_device) * topology.size
    result = {
        "topology": topology.name,
        "devices": topology.size,
        "batch_size": config.batch_size,
        "batch_per_device": per_device,
        "bytes_per_device": {**compiled.memory, "total": compiled.total},
        "flops_per_step": flops,
        "memory_traffic_per_device": compiled.program.memory_traffic,
        "collectives": _summary(compiled.program.collectives),
        "gradient_bytes": _size(_abstract_state(config).params),
    }
    if topology.chip is not None and result["collectives"]["by_kind"].keys() <= {"all-reduce"}:
        part = flops / topology.size
        scaling = [_estimate(config, each, compiled.program, part, per_device) for each in topology.smaller()]
        result |= {"estimate": scaling[-1], "weak_scaling": scaling}
    if topology.chip is not None and largest:
        result["largest_batch_per_device"] = _largest(config, topology, mesh, per_device, compiled, log)
    return result


def _compile(config: ml_collections.ConfigDict, mesh: Mesh, limit: float) -> Compiled | None:
    """The step; None if it needs more bytes of a device than the limit, or the compiler says so."""
    state, batch = _abstract_state(config), _abstract_batch(config)
    arguments = _placed(state, replicated(mesh)), _placed(batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    try:
        compiled = _step(config, mesh).lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return None
        raise
    found = compiled.memory_analysis()
    memory = {
        "parameters": _size(state.params),
        "optimizer": _size(state.opt_state),
        "frozen": _size((state.frozen, state.constants)),
        "statistics": _size((state.batch_stats, state.metrics, state.step)),
        "average": _size(state.average),
        "batch": _size(batch) // mesh.size,
    }
    memory["padding"] = max(0, found.argument_size_in_bytes - sum(memory.values()))  # to the tiles of the device
    memory["results"] = found.output_size_in_bytes - found.alias_size_in_bytes
    memory["temporaries"] = found.temp_size_in_bytes
    memory["program"] = found.generated_code_size_in_bytes
    step = Compiled(memory, Program(compiled.as_text()))
    return step if step.total <= limit else None


def _summary(collectives: list[Collective]) -> dict[str, Any]:
    kinds = {c.kind for c in collectives}
    largest = max(collectives, key=lambda c: c.bytes, default=None)
    return {
        "count": sum(c.times for c in collectives),
        "bytes": sum(c.times * c.bytes for c in collectives),
        "by_kind": {kind: sum(c.times for c in collectives if c.kind == kind) for kind in sorted(kinds)},
        "largest": largest and {"kind": largest.kind, "bytes": largest.bytes, "arrays": largest.arrays},
    }


def _largest(
    config: ml_collections.ConfigDict,
    topology: Topology,
    mesh: Mesh,
    per_device: int,
    compiled: Compiled,
    log: Callable[[str], None],
) -> int:
    """The largest batch of a device that was compiled and fits; one larger by more than `CLOSE` is not expected to.

    Memory grows nearly in proportion, so the next guess lies on the line through the last two that fit, or, if that
    does not fit, halfway back.
    """
    granule = math.lcm(GRANULE, config.accumulate)
    limit = topology.usable_memory
    fitting = [(per_device, compiled.total)]
    guess, too_large = max(granule, GROWTH * per_device // granule * granule), math.inf
    while guess > fitting[-1][0]:
        log(f"compiling the step for {guess} images a device")
        found = _compile(_with_batch(config, guess * mesh.size), mesh, limit)
        if found is not None:
            fitting.append((guess, found.total))
        else:
            too_large = guess
        best, total = fitting[-1]
        if len(fitting) > 1 and too_large == math.inf:
            before, total_before = fitting[-2]
            slope = max(1.0, (total - total_before) / (best - before))
            guess = best + int((limit - total) / slope)
        else:
            guess = (best + int(too_large)) // 2
        guess = guess // granule * granule
        if guess < (1 + CLOSE) * best:
            break
    return fitting[-1][0]


def _estimate(
    config: ml_collections.ConfigDict, topology: Topology, program: Program, flops: float, per_device: int
) -> dict[str, Any]:
    """A roofline: arithmetic at its peak, or memory at its bandwidth, whichever takes longer; then all exchanges.

    Args:
      config: of the run.
      topology: where.
      program: of one device; it is the same on each number of them.
      flops: of one device.
      per_device: images.
    """
    chip = topology.chip
    assert chip is not None
    computing, moving = flops / chip.flops[config.model.dtype], program.memory_traffic / chip.bandwidth
    talking = sum(topology.all_reduce_seconds(c.times, c.bytes) for c in program.collectives)
    seconds = max(computing, moving) + talking
    return {
        "topology": topology.name,
        "devices": topology.size,
        "batch_size": per_device * topology.size,
        "compute_seconds": computing,
        "memory_seconds": moving,
        "communication_seconds": talking,
        "step_seconds": seconds,
        "images_per_second": per_device * topology.size / seconds,
        "efficiency": max(computing, moving) / seconds,
    }


def _flops(config: ml_collections.ConfigDict, per_device: int) -> float:
    """Of a device's part of a step. A loop counts once in XLA's count, so this is of the batch in one part."""
    config = _with_batch(config, per_device)
    config.accumulate = 1
    mesh = make_mesh(jax.devices("cpu")[:1])
    return flops_of(_step(config, mesh), _abstract_state(config), _abstract_batch(config))


def _with_batch(config: ml_collections.ConfigDict, batch_size: int) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    config.batch_size = batch_size
    return config


def _step(config: ml_collections.ConfigDict, mesh: Mesh) -> Any:
    model = make_classifier(config.model.to_dict(), num_classes(config))
    return make_train_step(model, _optimizer(config), config, mesh)


def _optimizer(config: ml_collections.ConfigDict) -> Any:
    return make_optimizer(config.optimizer, 1000, config.batch_size)  # however many steps an epoch has: a constant


def _abstract_state(config: ml_collections.ConfigDict) -> TrainState:
    """Shapes and types of a state."""
    model = make_classifier(config.model.to_dict(), num_classes(config))

    def make() -> TrainState:
        variables = init_variables(model, tuple(config.dataset.image_size), config.seed)
        averaged = config.optimizer.ema_decay > 0
        return create_state(variables, _optimizer(config), model.trained_layers, averaged=averaged)

    return jax.eval_shape(make)


def _abstract_batch(config: ml_collections.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch, as the pipeline makes it."""
    rows = {
        "image": (jnp.uint8, (*config.dataset.image_size, 3)),
        "label": (jnp.int32, ()),
        "index": (jnp.int32, ()),
        "mask": (jnp.bool_, ()),
    }
    return {key: jax.ShapeDtypeStruct((config.batch_size, *shape), kind) for key, (kind, shape) in rows.items()}


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _size(tree: Any) -> int:
    """Bytes of the arrays of a tree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
