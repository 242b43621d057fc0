"""Examples to batches, with Grain: read, decode and resize once, shuffle, shard by process, batch.

Training reads an endless stream: every epoch is shuffled anew from (seed, epoch) and the next one follows without a
gap, so no example is left out when batches do not divide an epoch. The stream's position is one number, its state
small, and the global batch at a position is the same however many processes share it.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, SupportsIndex

import grain
import ml_collections
import numpy as np
from jaxtyping import Float32, Int, UInt8

from cervix_jax.errors import UserError
from cervix_jax.images.boxes import WHOLE, Box
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.geometry import CropResize


class DatasetError(UserError):
    """A prepared data set does not fit what was asked for; the message says what to do."""


class Examples:
    """Photographs of a split, decoded on first use and held in memory while they fit; a Grain random-access source.

    Attributes:
      labels: int32 indices into `class_names`, or -1 where unknown.
      class_names: the three types, or 'rest' and the type to tell from it.
      ids: paths inside the raw folder.
      groups: near-duplicates have the same number.
      boxes: float32 boxes around the cervix that were drawn, as in `Manifest`; NaN where there is none.
    """

    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    ids: list[str]
    groups: Int[np.ndarray, "n"]
    boxes: Float32[np.ndarray, "n 4"]

    def __init__(
        self,
        stored: Sequence[tuple[Any, int]],
        labels: Int[np.ndarray, "n"],
        class_names: tuple[str, ...],
        ids: list[str],
        groups: Int[np.ndarray, "n"],
        boxes: Float32[np.ndarray, "n 4"],
        crops: Float32[np.ndarray, "n 4"] | None,
        dataset: ml_collections.ConfigDict,
        *,
        with_boxes: bool = False,
        targets: Float32[np.ndarray, "n k"] | None = None,
    ):
        """Crops to `crops`, if given, NaN for the whole photograph; `with_boxes` puts `boxes` into the batches.

        `targets` are put there as `target`: distributions to train towards in place of the labels.
        """
        self._stored = stored
        self.labels = labels.astype(np.int32)
        self.class_names = class_names
        self.ids = ids
        self.groups = groups
        self.boxes = boxes
        self._crops, self._targets = crops, targets
        self._with_boxes = with_boxes
        self._transform = CropResize.from_config(dataset)
        self._size = self._transform.size
        shape = (len(ids), *self._size, 3)
        self._cache = np.zeros(shape, np.uint8) if np.prod(shape) <= dataset.cache_bytes else None
        self._cached = np.zeros(len(ids), bool)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        i = int(index)
        example = {"image": self.image(i), "label": self.labels[i], "index": np.int32(i), "mask": np.bool_(True)}
        if self._with_boxes:
            example["box"] = self.boxes[i]
        if self._targets is not None:
            example["target"] = self._targets[i]
        return example

    @property
    def ids_digest(self) -> str:
        """The same for the same photographs in the same order."""
        return hashlib.sha256("\n".join(self.ids).encode(errors="surrogateescape")).hexdigest()[:12]

    @property
    def targets_digest(self) -> str | None:
        """The same for the same `targets`; None without."""
        return None if self._targets is None else hashlib.sha256(self._targets.tobytes()).hexdigest()[:12]

    @property
    def images(self) -> Sequence[UInt8[np.ndarray, "h w 3"]]:
        """`image` of every example; a lazy sequence."""
        return _Images(self)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB pixels of a photograph at `config.dataset.image_size`, before augmentation and normalisation."""
        if self._cache is not None and self._cached[index]:
            return self._cache[index]
        box = self.crop(index)
        array = self._transform(read_photograph(self.jpeg(index), min_size=self._transform.min_size(box)), box)
        if self._cache is not None:
            self._cache[index] = array
            self._cached[index] = True
        return array

    def crop(self, index: int) -> Box | None:
        """The box that a photograph is cropped to; None for its centre."""
        if self._crops is None:
            return None
        left, top, right, bottom = self._crops[index].tolist()
        return WHOLE if math.isnan(left) else (left, top, right, bottom)

    def jpeg(self, index: int) -> bytes:
        """The stored JPEG of a photograph."""
        source, place = self._stored[index]
        return source[place]["image"]

    def class_priors(self) -> list[float]:
        """Fraction of each class among the labelled examples."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))
        return (counts / counts.sum()).tolist()

    def pixel_sums(self, process_index: int = 0, process_count: int = 1) -> Int[np.ndarray, "h w 3"]:
        """Sum of every `process_count`-th image from `process_index` on, int64; over all processes, that of all."""
        total = np.zeros((*self._size, 3), np.int64)
        for i in range(process_index, len(self), process_count):
            total += self.image(i)
        return total


class _Images(Sequence[UInt8[np.ndarray, "h w 3"]]):
    def __init__(self, examples: Examples):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._examples.image(i) for i in range(*index.indices(len(self)))]
        return self._examples.image(range(len(self))[index])


def training_batches(
    examples: Examples, config: ml_collections.ConfigDict, *, process_index: int = 0, process_count: int = 1
) -> grain.DatasetIterator:
    """An endless stream of shuffled batches: this process's rows of each global batch of `config.batch_size`.

    Batches are dictionaries of `image` (uint8 [b h w 3]), `label` and `index` (int32 [b]), `mask` (bool [b], all
    True) and, for a localiser, `box` (float32 [b 4]), or, with labels of readers, `target` (float32 [b k]). `get_state`
    and `set_state` save and restore the position.

    Raises:
      DatasetError: the batch does not divide over the processes, or there are too few examples for one batch.
    """
    if config.batch_size % process_count:
        raise DatasetError(f"config.batch_size {config.batch_size} does not divide over {process_count} processes")
    if len(examples) < config.batch_size:
        raise DatasetError(f"config.batch_size is {config.batch_size}, and there are {len(examples)} training images")
    stream = grain.MapDataset.source(examples).seed(config.seed).shuffle().repeat()
    batches = stream[process_index::process_count].batch(config.batch_size // process_count)
    threads = config.dataset.num_threads
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)))
