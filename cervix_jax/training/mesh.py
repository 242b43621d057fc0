"""Data parallelism: one axis of devices; batches are split over it, the state is on every device."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array

AXIS = "data"
T = TypeVar("T")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices, those of all processes if not given, along one axis.

    Those of a process lie together and in the order of the processes, as their rows of a batch do; `jax.make_mesh`
    would order those of a TPU by their places in the pod.
    """
    found = sorted(jax.devices(), key=lambda d: (d.process_index, d.id)) if devices is None else list(devices)
    return Mesh(np.array(found), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device, whole."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: T, sharding: Sharding) -> T:
    """Arrays that every process has alike, on every device of `replicated`."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
    """This process's rows of a global batch become global arrays, split by row over the devices.

    Rows that do not divide over this process's devices are filled up with zeros.

    Args:
      batch: arrays of as many rows; `mask` is False for rows to leave out, those filled up among them.
      mesh: the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    extra = -len(batch["mask"]) % len(mesh.local_devices)

    def place(value: np.ndarray) -> Array:
        filled = np.pad(value, [(0, extra)] + [(0, 0)] * (value.ndim - 1)) if extra else value
        return jax.make_array_from_process_local_data(sharding, filled)

    return {key: place(value) for key, value in batch.items()}
