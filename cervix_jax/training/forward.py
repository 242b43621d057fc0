"""Evaluation: every image of a sequence once, in order, whatever the batch size and the number of devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from cervix_jax.models.classifier import Classifier
from cervix_jax.progress import log_once
from cervix_jax.training.mesh import shard_batch
from cervix_jax.training.state import Variables

Forward = Callable[[Variables, Array], Array]  # (variables, images [b h w 3]) -> logits [b k]
ForwardWithFeatures = Callable[[Variables, Array], tuple[Array, Array]]  # likewise -> logits [b k], features [b d]


@runtime_checkable
class ImageSequence(Protocol):
    """Images of one size, uint8 [h w 3] each: a list, an array [n h w 3], or a sequence that decodes on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w 3"]: ...


def make_forward(model: Classifier) -> Forward:
    """The jitted forward pass without augmentation and dropout: (variables, images [b h w 3]) -> logits [b k]."""

    def forward(variables: Variables, images: Array) -> Float[Array, "b k"]:
        log_once("compiling the network")  # this runs when JAX traces the function, just before it compiles it
        return model.apply(variables, images)[0]

    return jax.jit(forward)


def make_forward_with_features(model: Classifier) -> ForwardWithFeatures:
    """Likewise to logits [b k] and what the head has before its last layer, [b d]."""

    def forward(variables: Variables, images: Array) -> tuple[Float[Array, "b k"], Float[Array, "b d"]]:
        log_once("compiling the network")
        logits, end_points = model.apply(variables, images)
        return logits, end_points["features"].reshape(len(logits), -1)

    return jax.jit(forward)


def image_batches(images: ImageSequence, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of each global batch, in order; each image is accessed once, when its batch is due.

    Args:
      images: the same in every process; each process accesses its own rows only.
      batch_size: of all processes together; each has at least one row.

    Yields:
      `image`: uint8 [b h w 3]; `mask`: bool [b], False where the last batch is padded with zeros.
    """
    process_index, process_count = jax.process_index(), jax.process_count()
    rows = max(1, batch_size // process_count)
    image_shape: tuple[int, ...] | None = None
    for first in range(0, len(images), rows * process_count):
        start = first + process_index * rows
        mask = np.arange(start, start + rows) < len(images)
        decoded = [images[i] for i in range(start, start + int(mask.sum()))]
        image_shape = image_shape or (decoded[0] if decoded else images[0]).shape
        batch = np.zeros((rows, *image_shape), np.uint8)
        if decoded:
            batch[: len(decoded)] = decoded
        yield {"image": batch, "mask": mask}


def compute_outputs(
    forward: Callable[[Variables, Array], Any],
    variables: Variables,
    batches: Iterable[Mapping[str, np.ndarray]],
    mesh: Mesh,
) -> Any:
    """Outputs of the rows whose `mask` is True, in order, in every process.

    Args:
      forward: jitted; gives one array with a row an image, or several.
      variables: of its model.
      batches: `image_batches`, or the like; at least one.
      mesh: the devices.

    Returns:
      One NumPy array, or several.
    """
    outputs = []
    for batch in batches:
        shards = shard_batch({"image": batch["image"], "mask": batch["mask"]}, mesh)
        rows, mask = multihost_utils.process_allgather(
            (forward(variables, shards["image"]), shards["mask"]), tiled=True
        )
        outputs.append(jax.tree.map(lambda array, mask=mask: array[mask], rows))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)
