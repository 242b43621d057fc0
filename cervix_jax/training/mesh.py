"""Data parallelism: one axis of devices; batches are split over it, the state is on every device."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """All devices of all processes along the axis 'data'."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device, whole."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """This process's rows of a global batch become global arrays, split by row over the devices."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}


def batch_multiple(batch_size: int, mesh: Mesh) -> int:
    """The least multiple of the number of devices that is at least `batch_size`."""
    return -(-batch_size // mesh.size) * mesh.size
