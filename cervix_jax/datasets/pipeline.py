"""PreparedDataset photographs to batches, with Grain: read, decode and resize once, shuffle, shard by process, batch.

Training reads an endless stream: every pass is shuffled anew from (seed, pass) and the next pass follows without a gap,
so no example is left out when batches do not divide an epoch. The stream's position is one number, its state small, and
the global batch at a position is the same however many processes share it. Evaluation reads every example once, in
order; the last batch is filled up with masked zeros.
"""

import collections
import contextlib
import dataclasses
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import grain
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8

from cervix_jax.datasets.builder import DOWNLOAD_INSTRUCTIONS, ManualDirError, feature_cache_path, fingerprint_of, scan
from cervix_jax.datasets.splits import Manifest, SplitAssignment, SplitConfig, assign_splits
from cervix_jax.errors import UserError
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.geometry import CropResize

Batch = dict[str, np.ndarray]  # image: uint8 [b h w 3]; label, index: int32 [b]; mask: bool [b]


class DatasetError(UserError):
    """A prepared data set does not fit what was asked for; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A data set on disk, and how `config.selection` splits it.

    Attributes:
      builder: of TFDS.
      manifest: what is known of its photographs.
      assignment: what becomes of each of them.
    """

    builder: tfds.core.DatasetBuilder
    manifest: Manifest
    assignment: SplitAssignment
    _options: ml_collections.ConfigDict
    _stored: list[tuple[Any, int]]  # where each photograph is: data source and place in it

    @property
    def fingerprint(self) -> str:
        """The same for the same photographs."""
        return self.builder.info.metadata["fingerprint"]

    @property
    def splits(self) -> dict[str, int]:
        """Number of photographs of each split."""
        return dict(collections.Counter(self.assignment.split))

    def with_splits(self, config: ml_collections.ConfigDict) -> "PreparedDataset":
        """The same photographs, selected and seen as another config of this data set wants; nothing is read again."""
        assignment = assign_splits(self.manifest, SplitConfig(**config.selection))
        return dataclasses.replace(self, assignment=assignment, _options=ml_collections.ConfigDict(config.dataset))

    def examples(self, split: str) -> "Examples":
        """The photographs of 'train', 'validation', 'test' or 'rejected'.

        Raises:
          DatasetError: there is no such split.
        """
        if split not in self.assignment.split:
            raise DatasetError(f"{self._options.name} has no split {split!r}; it has {', '.join(self.splits)}")
        rows = [i for i, s in enumerate(self.assignment.split) if s == split]
        return Examples(
            [self._stored[i] for i in rows],
            self.assignment.labels[rows],
            self.assignment.class_names,
            [self.manifest.names[i] for i in rows],
            self.manifest.groups[rows],
            self._options,
        )


def load_dataset(
    config: ml_collections.ConfigDict, manual_dir: str | None = None, data_dir: str | None = None
) -> PreparedDataset:
    """The data set that a config names, prepared now if it was not before, and its selection.

    Args:
      config: `config.dataset` and `config.selection` are read.
      manual_dir: where the raw photographs are, if not where the config says.
      data_dir: where prepared data sets are, if not where the config says.

    Raises:
      ManualDirError: the raw photographs are needed and not there.
      DatasetError: there is no such data set, or it was prepared from other photographs than `dataset.manual_dir`
        holds.
    """
    dataset = ml_collections.ConfigDict(config.dataset).unlock()
    dataset.update({k: v for k, v in {"manual_dir": manual_dir, "data_dir": data_dir}.items() if v is not None})
    builder = _build(dataset)
    decoders = {"image": tfds.decode.SkipDecoding()}
    sources = [builder.as_data_source(split, decoders=decoders) for split in builder.info.splits]
    stored = [(source, i) for source in sources for i in range(len(source))]
    manifest = _read_manifest(source[i] for source, i in stored)
    return PreparedDataset(builder, manifest, assign_splits(manifest, SplitConfig(**config.selection)), dataset, stored)


def measure_with_beam(config: ml_collections.ConfigDict, beam_options: Sequence[str]) -> None:
    """Measures the raw photographs of a config with Apache Beam, so that `load_dataset` finds them measured.

    All of them, unless the data set is there already: what an earlier pipeline did before it was killed is not kept.

    Raises:
      ManualDirError: the raw photographs are not there.
      DatasetError: there is no such data set, its photographs are drawn, or Beam is not installed.
    """
    dataset = config.dataset
    builder = _builder(dataset)
    if builder.builder_config.drawn:
        raise DatasetError(f"--beam measures the photographs of a folder, but {dataset.name} draws them")
    if builder.data_path.exists():
        return
    if dataset.manual_dir is None:
        raise ManualDirError(f"config.dataset.manual_dir is not given.\n{DOWNLOAD_INSTRUCTIONS}")
    if importlib.util.find_spec("apache_beam") is None:
        raise DatasetError("--beam needs Apache Beam, in an environment of its own: see launch/beam.lock")
    from cervix_jax.datasets import beam_features

    folder = Path(dataset.manual_dir)
    sources = {name: folder / name for name in scan(folder, additional=builder.builder_config.additional)}
    moments = beam_features.measure(sources, feature_cache_path(builder.data_path), beam_options, inside=folder)
    counts = ", ".join(f"{sums.count} of {part}" for part, sums in sorted(moments.items()))
    print(f"measured with Beam: {counts}", file=sys.stderr)


def _builder(dataset: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(dataset.name, data_dir=dataset.data_dir, file_format="array_record")
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise DatasetError(f"config.dataset.name is {dataset.name!r}: {str(error).splitlines()[0]}") from error


def _build(dataset: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    builder = _builder(dataset)
    raw, additional = not builder.builder_config.drawn, builder.builder_config.additional
    already = builder.data_path.exists()
    if raw and not already:
        if dataset.manual_dir is None:
            raise ManualDirError(f"config.dataset.manual_dir is not given.\n{DOWNLOAD_INSTRUCTIONS}")
        scan(Path(dataset.manual_dir), additional=additional)  # says what is missing, where TFDS would only assert
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    download = tfds.download.DownloadConfig(manual_dir=dataset.manual_dir or "none")
    with contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(download_config=download)
    if raw and already and dataset.manual_dir:
        found = fingerprint_of(Path(dataset.manual_dir), additional=additional)
        if found != builder.info.metadata["fingerprint"]:
            raise DatasetError(
                f"{builder.data_path} was prepared from other photographs than {dataset.manual_dir} holds now; "
                "remove it, or give another data_dir"
            )
    return builder


def _read_manifest(rows: Iterable[Mapping[str, Any]]) -> Manifest:
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for key, value in row.items():
            if key != "image":
                columns.setdefault(key, []).append(value)
    return Manifest(
        names=[name.decode() for name in columns["id"]],
        source=[source.decode() for source in columns["source"]],
        labels=np.array(columns["label"], int),
        folder_labels=np.array(columns["folder_label"], int),
        histograms=np.stack(columns["histograms"]),
        sharpness=np.array(columns["sharpness"], np.float32),
        groups=np.array(columns["group"], int),
    )


class Examples:
    """Photographs, decoded on first use and held in memory while they fit; a Grain random-access source.

    Attributes:
      labels: places in `class_names`, or -1 where unknown.
      class_names: the three types, or 'rest' and the type that is told from it.
      ids: paths inside the raw folder.
      groups: near-duplicates have the same number.
    """

    labels: Int[np.ndarray, "n"]
    class_names: tuple[str, ...]
    ids: list[str]
    groups: Int[np.ndarray, "n"]

    def __init__(
        self,
        stored: Sequence[tuple[Any, int]],
        labels: Int[np.ndarray, "n"],
        class_names: tuple[str, ...],
        ids: list[str],
        groups: Int[np.ndarray, "n"],
        dataset: ml_collections.ConfigDict,
    ):
        self._stored = stored
        self.labels = labels.astype(np.int32)
        self.class_names = class_names
        self.ids = ids
        self.groups = groups
        self._size = tuple(dataset.image_size)
        self._transform = CropResize(self._size, dataset.crop, dataset.resize)
        shape = (len(ids), *self._size, 3)
        self._cache = np.zeros(shape, np.uint8) if np.prod(shape) <= dataset.cache_bytes else None
        self._cached = np.zeros(len(ids), bool)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        i = int(index)
        return {"image": self.image(i), "label": self.labels[i], "index": np.int32(i), "mask": np.bool_(True)}

    @property
    def images(self) -> Sequence[UInt8[np.ndarray, "h w 3"]]:
        """All photographs as networks see them, each decoded when it is asked for."""
        return _Images(self)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The photograph as networks see it, before augmentation and normalisation."""
        if self._cache is not None and self._cached[index]:
            return self._cache[index]
        photograph = read_photograph(self.jpeg(index), min_size=self._size)
        array = self._transform(photograph)
        if self._cache is not None:
            self._cache[index] = array
            self._cached[index] = True
        return array

    def jpeg(self, index: int) -> bytes:
        """The photograph as it is stored."""
        source, place = self._stored[index]
        return source[place]["image"]

    def class_shares(self) -> list[float]:
        """Share of each class among the labelled examples."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))
        return (counts / counts.sum()).tolist()

    def pixel_sums(self, process_index: int = 0, process_count: int = 1) -> Int[np.ndarray, "h w 3"]:
        """Sum over this process's share of the photographs; over all processes, that of all (report section 5.1)."""
        total = np.zeros((*self._size, 3), np.int64)
        for i in range(process_index, len(self), process_count):
            total += self.image(i)
        return total


class _Images(Sequence[UInt8[np.ndarray, "h w 3"]]):
    """`Examples.images`."""

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
    """An endless stream of shuffled batches; this process's part of each global batch of `config.batch_size`.

    `get_state` and `set_state` save and restore the position.

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


def evaluation_batches(
    examples: Examples, batch_size: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """Every example once, in order; this process's rows of global batches of `batch_size`, masked where filled up."""
    rows = max(1, batch_size // process_count)
    blank = {key: np.zeros_like(value) for key, value in examples[0].items()}
    for start in range(0, len(examples), rows * process_count):
        first = start + process_index * rows
        batch = [examples[i] if i < len(examples) else blank for i in range(first, first + rows)]
        yield {key: np.stack([row[key] for row in batch]) for key in blank}
