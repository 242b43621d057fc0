"""Logits of every example of a split, once, whatever the batch size and the number of devices."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float

from cervix_jax.training.mesh import shard_batch
from cervix_jax.training.state import Variables

Forward = Callable[[Variables, Array], Array]  # (variables, images [b h w 3]) -> logits [b k]


def all_logits(
    forward: Forward, variables: Variables, batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh
) -> Float[np.ndarray, "n k"]:
    """Logits of the examples whose `mask` is True, in order.

    Args:
      forward: jitted.
      variables: of the model.
      batches: `image` [b h w 3] and `mask` [b], this process's rows.
      mesh: the devices.
    """
    rows = []
    for batch in batches:
        shards = shard_batch({"image": batch["image"], "mask": batch["mask"]}, mesh)
        logits, mask = multihost_utils.process_allgather(
            (forward(variables, shards["image"]), shards["mask"]), tiled=True
        )
        rows.append(logits[mask])
    return np.concatenate(rows)
