"""Data parallelism: a mesh of one axis, over which batches are sharded and the state is replicated."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array

AXIS = "data"
T = TypeVar("T")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis over some devices, or over those of all processes.

    They are in the order of their processes, as the rows of a batch are; `jax.make_mesh` would order those of a TPU by
    their position in the pod.
    """
    if devices is None:
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds whole arrays."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: T, sharding: Sharding) -> T:
    """Puts arrays, which are equal in every process, on every device.

    Args:
      tree: of arrays.
      sharding: from `replicated`.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
    """Makes global arrays, sharded by row over the devices, from this process's rows of a global batch.

    Rows that do not divide over this process's devices are padded with zeros.

    Args:
      batch: arrays with equal numbers of rows; `mask` is False in rows to ignore, as it is in those of the padding.
      mesh: the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    padding = -len(batch["mask"]) % len(mesh.local_devices)

    def shard(value: np.ndarray) -> Array:
        padded = np.pad(value, [(0, padding)] + [(0, 0)] * (value.ndim - 1)) if padding else value
        return jax.make_array_from_process_local_data(sharding, padded)

    return {key: shard(value) for key, value in batch.items()}
