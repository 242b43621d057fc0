"""Compiles the training step for a topology and analyses what it needs there.

It is the step that `train` runs, compiled for shapes instead of arrays; nothing is computed.
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
from cervix_jax.planning.hlo import Collective, Program
from cervix_jax.planning.topologies import Topology
from cervix_jax.training.mesh import AXIS, make_mesh, replicated
from cervix_jax.training.setup import TrainSetup, make_setup

_GROWTH = 4  # the second batch that is compiled, to see how memory grows, as a multiple of the first
_GRANULE = 8  # batches per device are multiples of this
_TOLERANCE = 0.05  # the largest batch is found up to this fraction
_STEPS_PER_EPOCH = 1000  # only a constant of the program depends on it


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A step compiled for a batch on each device.

    Attributes:
      memory: bytes of one device, by kind.
      program: of one device.
    """

    memory: dict[str, int]
    program: Program

    @property
    def total(self) -> int:
        """Bytes of one device."""
        return sum(self.memory.values())


Compile = Callable[[ml_collections.ConfigDict, Mesh, float], Compiled | None]


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
      largest: whether to search the largest batch that fits, which compiles some more times.
      log: called with messages on progress.

    Returns:
      `topology`, `devices`, `batch_size`, `batch_per_device`; `bytes_per_device` by kind, and their `total`;
      `flops_per_step` over all devices, as XLA counts them before it compiles; `memory_traffic_per_device`: bytes that
      a step reads and writes; `collectives`: `count`, `bytes` that a device sends, `by_kind`, and the `largest` one;
      `gradient_bytes`. If figures of the chip are published and all collectives are all-reduces, also `estimate`:
      the time of a step, and `weak_scaling`: the same on smaller topologies with the same batch per device. With
      `largest`, `largest_batch_per_device`.

    Raises:
      ConfigError: the layout cannot be compiled ahead of time, or the batch does not divide over the devices.
      UserError: the topology cannot be made here, or the step does not fit its devices.
    """
    if config.parallel != "jit":
        raise ConfigError(
            f"config.parallel is {config.parallel!r}; only the step of 'jit' can be compiled ahead of time"
        )
    if config.batch_size % topology.size:
        raise ConfigError(
            f"config.batch_size {config.batch_size} does not divide over {topology.size} devices; "
            "--batch_per_device sets the batch of each"
        )
    mesh = make_mesh(topology.devices())
    per_device = config.batch_size // topology.size
    log(f"compiling the step for {topology.size} devices, {per_device} images each")
    compiled = compile_step(config, mesh, topology.usable_memory)
    if compiled is None:
        raise UserError(
            f"a batch of {per_device} images per device does not fit {topology.kind}; try a smaller "
            "--config.batch_size, --config.accumulate or --config.model.remat"
        )
    flops = flops_per_device(config, per_device) * topology.size
    result = {
        "topology": topology.name,
        "devices": topology.size,
        "batch_size": config.batch_size,
        "batch_per_device": per_device,
        "bytes_per_device": {**compiled.memory, "total": compiled.total},
        "flops_per_step": flops,
        "memory_traffic_per_device": compiled.program.memory_traffic,
        "collectives": _summary(compiled.program.collectives),
        "gradient_bytes": compiled.memory["parameters"],
    }
    if topology.chip is not None and result["collectives"]["by_kind"].keys() <= {"all-reduce"}:
        flops /= topology.size
        scaling = [estimate(config, each, compiled.program, flops, per_device) for each in topology.smaller()]
        result |= {"estimate": scaling[-1], "weak_scaling": scaling}
    if topology.chip is not None and largest:
        result["largest_batch_per_device"] = largest_batch(config, topology, mesh, per_device, compiled, log)
    return result


def compile_step(config: ml_collections.ConfigDict, mesh: Mesh, limit: float) -> Compiled | None:
    """Compiles the step; None if it needs more than `limit` bytes of a device, or the compiler says that it does."""
    setup = _make_setup(config, mesh)
    state, batch = setup.abstract_state(), _abstract_batch(config)
    arguments = _with_sharding(state, replicated(mesh)), _with_sharding(batch, NamedSharding(mesh, PartitionSpec(AXIS)))
    train_step: Any = setup.train_step  # jitted, which its type does not say
    try:
        compiled = train_step.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return None
        raise
    analysis = compiled.memory_analysis()
    memory = {
        "parameters": _size(state.params),
        "optimizer": _size(state.opt_state),
        "frozen": _size((state.frozen, state.constants)),
        "statistics": _size((state.batch_stats, state.metrics, state.step)),
        "average": _size(state.average),
        "batch": _size(batch) // mesh.size,
    }
    memory["padding"] = max(0, analysis.argument_size_in_bytes - sum(memory.values()))  # to the tiles of the device
    memory["results"] = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    memory["temporaries"] = analysis.temp_size_in_bytes
    memory["program"] = analysis.generated_code_size_in_bytes
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


def largest_batch(
    config: ml_collections.ConfigDict,
    topology: Topology,
    mesh: Mesh,
    per_device: int,
    compiled: Compiled,
    log: Callable[[str], None],
    compile_step: Compile = compile_step,
) -> int:
    """The largest batch per device that was compiled and fits; a larger one than by 5 % is not expected to fit.

    Memory grows almost linearly, so the next guess is on the line through the last two that fit, or, if that does not
    fit, halfway back.

    Args:
      config: of the run.
      topology: whose memory is the limit.
      mesh: its devices.
      per_device: a batch that fits.
      compiled: the step for that batch.
      log: called with messages on progress.
      compile_step: see the function of that name.
    """
    granule = math.lcm(_GRANULE, config.accumulate * max(1, config.batch_norm_groups // mesh.size))
    limit = topology.usable_memory
    fitting = [(per_device, compiled.total)]
    guess, too_large = max(granule, _GROWTH * per_device // granule * granule), math.inf
    while guess > fitting[-1][0]:
        log(f"compiling the step for {guess} images per device")
        candidate = compile_step(_with_batch_size(config, guess * mesh.size), mesh, limit)
        if candidate is not None:
            fitting.append((guess, candidate.total))
        else:
            too_large = guess
        best, total = fitting[-1]
        if len(fitting) > 1 and too_large == math.inf:
            before, total_before = fitting[-2]
            bytes_per_image = max(1.0, (total - total_before) / (best - before))
            guess = best + int((limit - total) / bytes_per_image)
        else:
            guess = (best + int(too_large)) // 2
        guess = guess // granule * granule
        if guess < (1 + _TOLERANCE) * best:
            break
    return fitting[-1][0]


def estimate(
    config: ml_collections.ConfigDict, topology: Topology, program: Program, flops: float, per_device: int
) -> dict[str, Any]:
    """A roofline: arithmetic at its peak or memory at its bandwidth, whichever takes longer, and then all collectives.

    Args:
      config: of the run.
      topology: of a chip with published figures.
      program: of one device; it is the same for any number of devices.
      flops: of one device, per step.
      per_device: images per step.

    Returns:
      `topology`, `devices`, `batch_size`, the seconds of a step by cause and in total, `images_per_second`, and
      `efficiency`: the fraction of the step that is not communication.
    """
    chip = topology.chip
    assert chip is not None
    compute, memory = flops / chip.flops[config.model.dtype], program.memory_traffic / chip.bandwidth
    communication = sum(topology.all_reduce_seconds(c.times, c.bytes) for c in program.collectives)
    seconds = max(compute, memory) + communication
    return {
        "topology": topology.name,
        "devices": topology.size,
        "batch_size": per_device * topology.size,
        "compute_seconds": compute,
        "memory_seconds": memory,
        "communication_seconds": communication,
        "step_seconds": seconds,
        "images_per_second": per_device * topology.size / seconds,
        "efficiency": max(compute, memory) / seconds,
    }


def flops_per_device(config: ml_collections.ConfigDict, per_device: int) -> float:
    """Floating-point operations of one device per step.

    XLA counts the body of a loop once, so they are counted without microbatches.
    """
    config = _with_batch_size(config, per_device)
    config.accumulate = config.batch_norm_groups = 1
    setup = _make_setup(config, make_mesh(jax.devices("cpu")[:1]))
    return flops_of(setup.train_step, setup.abstract_state(), _abstract_batch(config))


def _with_batch_size(config: ml_collections.ConfigDict, batch_size: int) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    config.batch_size = batch_size
    return config


def _make_setup(config: ml_collections.ConfigDict, mesh: Mesh) -> TrainSetup:
    return make_setup(config, mesh, num_classes(config), _STEPS_PER_EPOCH)


def _abstract_batch(config: ml_collections.ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch, as the pipeline makes it."""
    rows = {
        "image": (jnp.uint8, (*config.dataset.image_size, 3)),
        "label": (jnp.int32, ()),
        "index": (jnp.int32, ()),
        "mask": (jnp.bool_, ()),
    }
    if config.task == "localise":
        rows["box"] = (jnp.float32, (4,))
    elif config.dataset.readers:
        rows["target"] = (jnp.float32, (num_classes(config),))
    return {key: jax.ShapeDtypeStruct((config.batch_size, *shape), dtype) for key, (dtype, shape) in rows.items()}


def _with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _size(tree: Any) -> int:
    """Bytes of all arrays of a tree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
