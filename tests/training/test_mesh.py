"""Padding of batches and placement of arrays on one device; `test_layouts.py` has several."""

import jax
import numpy as np
import pytest

from cervix_jax.training import mesh


@pytest.fixture(scope="module")
def devices():
    return mesh.make_mesh()


def test_the_mesh_has_all_devices_on_one_axis(devices) -> None:
    assert devices.axis_names == (mesh.AXIS,)
    assert list(devices.devices) == jax.devices()


def test_a_batch_keeps_its_rows_and_is_sharded_by_row(devices) -> None:
    batch = {"image": np.arange(30, dtype=np.uint8).reshape(5, 2, 1, 3), "mask": np.array([True] * 4 + [False])}
    shards = mesh.shard_batch(batch, devices)
    assert shards.keys() == batch.keys()
    for name, values in batch.items():
        padded = -(-5 // devices.size) * devices.size
        assert shards[name].shape == (padded, *values.shape[1:])
        assert shards[name].dtype == values.dtype
        assert shards[name].sharding.spec == jax.sharding.PartitionSpec(mesh.AXIS)
        np.testing.assert_array_equal(shards[name][:5], values)
        assert not np.asarray(shards[name][5:]).any()


def test_replicated_arrays_are_whole_on_every_device(devices) -> None:
    tree = mesh.replicate({"a": np.arange(3.0), "b": [np.ones((2, 2))]}, mesh.replicated(devices))
    for array in jax.tree.leaves(tree):
        assert array.sharding.is_fully_replicated
        assert len(array.addressable_shards) == devices.size
    np.testing.assert_array_equal(tree["a"], [0, 1, 2])
