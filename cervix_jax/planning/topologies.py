"""Accelerators: their published figures, how they are connected, and what JAX needs to compile for them.

TPU figures are from Google Cloud's page on each version (cloud.google.com/tpu/docs/v4, v5e, v5p, v6e): peak in
bfloat16, in which a TPU by default also multiplies float32 matrices; capacity and bandwidth of the memory; interconnect
bandwidth per chip, which here is divided by its links and by two directions. H100: data sheet of the NVIDIA H100 SXM
(dense peaks; TF32 for float32) and, between hosts, one 400 Gbit/s adapter per GPU as in the DGX H100. A hop between
TPUs takes about a microsecond (Austin et al. 2025, *How to Scale Your Model*, part 3).
"""

import dataclasses
import importlib.util
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from cervix_jax.errors import UserError

GIB = 2.0**30
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  threads_per_core_limit: 2048  core_count: 132  fpus_per_core: 128  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535  block_dim_limit_z: 65535  memory_bandwidth: 3352320000000  l2_cache_size: 52428800
  clock_rate_ghz: 1.98  device_memory_size: 84929347584  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of an accelerator.

    Attributes:
      platform: JAX's name of it.
      flops: peak floating-point operations per second, by the `dtype` of a model.
      memory: bytes.
      bandwidth: of the memory, bytes per second.
      link: bytes per second of a link to a neighbour, in one direction; of a GPU, to the others of its host.
      hop: latency of a link in seconds; 0 if none is published.
      axes: dimensions of the network between chips.
      ring: an axis whose length is a multiple of this closes to a ring.
      network: bytes per second and device between hosts, in one direction; None if links cross hosts.
    """

    platform: str
    flops: dict[str, float]
    memory: float
    bandwidth: float
    link: float
    hop: float = 0.0
    axes: int = 1
    ring: int = 1
    network: float | None = None


def _tpu(teraflops: int, memory: float, bandwidth: float, interconnect: float, axes: int, ring: int) -> Chip:
    flops = {"float32": teraflops * 1e12, "bfloat16": teraflops * 1e12}
    return Chip("tpu", flops, memory, bandwidth, interconnect / (2 * 2 * axes), 1e-6, axes, ring)


CHIPS = {
    "v4": _tpu(275, 32 * GIB, 1200e9, 600e9, axes=3, ring=4),
    "v5e": _tpu(197, 16e9, 819e9, 400e9, axes=2, ring=16),
    "v5p": _tpu(459, 95 * GIB, 2765e9, 1200e9, axes=3, ring=4),
    "v6e": _tpu(918, 32e9, 1638e9, 800e9, axes=2, ring=16),
    "h100": Chip("cuda", {"float32": 494.7e12, "bfloat16": 989.4e12}, 80e9, 3350e9, link=450e9, axes=2, network=50e9),
}
PACKAGES = {"tpu": ("libtpu", "tpu"), "cuda": ("jax_plugins.xla_cuda13", "cuda")}  # platform: module, extra
_CHIPS_PER_HOST = 8
_CUDA_MEMORY_FRACTION = 0.75  # that JAX allocates by default


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices and how they are connected.

    Attributes:
      kind: a name in `CHIPS`, or 'cpu': the host's own processor, as several devices.
      shape: chips along each axis; of GPUs, hosts and GPUs of a host.
    """

    kind: str
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, name: str) -> "Topology":
        """Parses 'v5e:16x16', 'v4:4x4x4', 'h100:4x8' (4 hosts of 8), 'h100:8' or 'cpu:4'.

        Raises:
          UserError: there is no such kind, or it has no such shape.
        """
        kinds = f"{', '.join(CHIPS)} or cpu"
        match = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*)*)", name)
        if match is None or match[1] not in {*CHIPS, "cpu"}:
            raise UserError(f"{name!r} is no topology; examples: v5e:16x16, v4:4x4x4, h100:8; the kinds are {kinds}")
        kind, shape = match[1], tuple(map(int, match[2].split("x")))
        axes = 1 if kind == "cpu" else CHIPS[kind].axes
        if kind == "h100" and len(shape) == 1:
            shape = (1, *shape)
        if axes == 3 and len(shape) == 2:
            shape = (*shape, 1)
        if len(shape) != axes or (kind == "h100" and shape[1] > _CHIPS_PER_HOST):
            form = {1: "N", 2: "AxB", 3: "AxBxC"}[axes] if kind != "h100" else "GPUS or HOSTSxGPUS, up to 8 per host"
            raise UserError(f"{name!r} is no topology of {kind}; it would be {kind}:{form}")
        return cls(kind, shape)

    @property
    def name(self) -> str:
        """As `parse` reads it."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """Number of devices."""
        return math.prod(self.shape)

    @property
    def usable_memory(self) -> float:
        """Bytes of a device; of a GPU, the fraction that JAX allocates by default."""
        if self.chip is None:
            return math.inf
        return self.chip.memory * (_CUDA_MEMORY_FRACTION if self.chip.platform == "cuda" else 1.0)

    @property
    def chip(self) -> Chip | None:
        """None for 'cpu', which has no published figures."""
        return CHIPS.get(self.kind)

    def devices(self) -> Sequence[jax.Device]:
        """Descriptions of the devices, to compile for.

        Raises:
          UserError: the library that compiles for them is not installed, or cannot make this topology.
        """
        if self.chip is None:
            return self._host_devices()
        module, extra = PACKAGES[self.chip.platform]
        if not _is_installed(module):
            raise UserError(
                f"to compile for {self.kind} {module.split('.')[-1]} is needed, which is not installed: "
                f"pip install -e '.[{extra}]' in the repository (Linux); no accelerator is needed"
            )
        try:
            return list(topologies.get_topology_desc(self.name, self.chip.platform, **self._options()).devices)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"cannot make the topology {self.name}: {str(error).splitlines()[0]}") from error

    def _options(self) -> dict[str, Any]:
        if self.kind == "h100":
            return {"topology": f"1x{self.shape[0]}x{self.shape[1]}", "target_config": _H100}
        bounds = (*(min(n, 2) for n in self.shape), 1)[:3]
        if self.kind in ("v5e", "v6e") and self.size == _CHIPS_PER_HOST:
            bounds = (*self.shape, 1)  # the one slice that is a host of eight chips
        options: dict[str, Any] = {"chips_per_host_bounds": (*bounds[:2], 1)}
        return options | {"chip_config_name": "megacore"} if self.kind == "v4" else options

    def _host_devices(self) -> Sequence[jax.Device]:
        if len(devices := jax.devices("cpu")) < self.size:
            raise UserError(f"{self.name}: there are {len(devices)} CPU devices; set JAX_NUM_CPU_DEVICES={self.size}")
        return devices[: self.size]

    def smaller(self) -> Iterator["Topology"]:
        """Topologies from one device up to this one, which double one axis at a time."""
        shapes, shape = [self.shape], list(self.shape)
        while max(shape) > 1:
            axis = shape.index(max(shape)) if self.kind != "h100" else int(shape[0] == 1)  # hosts before their GPUs
            shape[axis] = shape[axis] // 2 if shape[axis] % 2 == 0 else 1
            shapes.append(tuple(shape))
        return (Topology(self.kind, shape) for shape in reversed(shapes))

    def all_reduce_seconds(self, count: int, size: int) -> float:
        """Estimate of the time of `count` all-reduces, one after another, of `size` bytes each.

        Each is a reduce-scatter and an all-gather. On TPU they use all links at once, in both directions where an axis
        is a ring, and take at least the hops to the farthest chip. On GPUs they run within the hosts and then, for a
        fraction of the bytes per GPU, between hosts.
        """
        chip = self.chip
        if chip is None or self.size == 1:
            return 0.0
        if chip.network is not None:
            hosts, gpus = self.shape
            within = 2 * (gpus - 1) / gpus * size / chip.link
            return count * (within + 2 * (hosts - 1) / hosts * size / gpus / chip.network)
        axes = [(n, self._is_ring(n)) for n in self.shape if n > 1]
        speed = sum(chip.link * (2 if ring else 1) for _, ring in axes)
        hops = sum(n // 2 if ring else n - 1 for n, ring in axes)
        return count * max(2 * (self.size - 1) / self.size * size / speed, 2 * hops * chip.hop)

    def _is_ring(self, length: int) -> bool:
        """In v5e and v6e, axes of 16 are rings; in v4 and v5p all axes are if the slice consists of cubes of 4x4x4."""
        ring = CHIPS[self.kind].ring
        return length % ring == 0 and (self.kind in ("v5e", "v6e") or all(n % ring == 0 for n in self.shape))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
