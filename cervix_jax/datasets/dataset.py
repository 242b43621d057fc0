"""A prepared data set: built if it is not on disk yet, its manifest, and how a config splits it."""

import collections
import contextlib
import dataclasses
import importlib.util
import io
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32

from cervix_jax.atomic import open_atomic
from cervix_jax.csv_files import from_cell, read_rows
from cervix_jax.datasets import annotations
from cervix_jax.datasets.annotations import finder
from cervix_jax.datasets.builder import (
    DOWNLOAD_INSTRUCTIONS,
    Cervix,
    digests_path,
    feature_cache_path,
    fingerprint_of,
)
from cervix_jax.datasets.cases import cases_by_pattern, unite
from cervix_jax.datasets.file_digests import file_digests
from cervix_jax.datasets.folders import ManualDirError, log_found, scan
from cervix_jax.datasets.photograph_table import is_table, lay_out
from cervix_jax.datasets.pipeline import DatasetError, Examples
from cervix_jax.datasets.reader_labels import count_readers, read_labels, reader_targets
from cervix_jax.datasets.splits import Manifest, SplitAssignment, SplitConfig, assign_splits, check_groups
from cervix_jax.images.boxes import Box, LocatedBox
from cervix_jax.lock import exclusive
from cervix_jax.progress import log

LOCK = "cervix.lock"  # in the root of all data sets
MANIFEST_FILE = "manifest.npz"  # in the data set's folder
BOXES = "boxes"  # value of `config.dataset.crop`: crop to the boxes that were drawn
BOXES_INSTRUCTIONS = "draw some, in boxes.csv or by an annotation tool (see cervix_jax/datasets/README.md)"


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A data set on disk, and how `config.selection` splits it.

    Attributes:
      builder: TFDS' builder of the data set.
      manifest: every photograph's label and features, in the order in which they are stored.
      assignment: the split of each row of the manifest.
      crops: float32 boxes that photographs are cropped to and their confidence, a row each; a box is NaN for the whole
        photograph, the confidence of one that was drawn is NaN; None to crop the centre.
    """

    builder: tfds.core.DatasetBuilder
    manifest: Manifest
    assignment: SplitAssignment
    crops: Float32[np.ndarray, "n 5"] | None
    _options: ml_collections.ConfigDict
    _needs_boxes: bool
    _stored: list[tuple[Any, int]]  # data source and index of each row of the manifest

    @property
    def fingerprint(self) -> str:
        """The same for the same photographs."""
        return self.builder.info.metadata["fingerprint"]

    @property
    def splits(self) -> dict[str, int]:
        """Number of photographs of each split."""
        return dict(collections.Counter(self.assignment.split))

    @property
    def boxes(self) -> Float32[np.ndarray, "n 4"]:
        """Boxes by `config.dataset.annotator`, who may be left out where only one has drawn any; NaN where none is.

        Raises:
          DatasetError: nobody of that name has drawn boxes, or several have and none is named.
        """
        annotators, name = list(self.manifest.annotators), self._options.annotator
        if not annotators and not name:
            return np.full((len(self.manifest.names), 4), np.nan, np.float32)
        if not name and len(annotators) == 1:
            return self.manifest.boxes[:, 0]
        if name not in annotators:
            drawn_by = f"boxes were drawn by {', '.join(map(repr, annotators))}" if annotators else "there are no boxes"
            raise DatasetError(f"config.dataset.annotator is {name!r}, and {drawn_by}")
        return self.manifest.boxes[:, annotators.index(name)]

    def with_splits(self, config: ml_collections.ConfigDict) -> "PreparedDataset":
        """The same photographs, split and resized as another config of this data set says; reads nothing."""
        assignment = _assign(self.manifest, config.selection)
        dataset = dataclasses.replace(
            self,
            assignment=assignment,
            crops=None,
            _options=ml_collections.ConfigDict(config.dataset),
            _needs_boxes=config.task == "localise",
        )
        return dataset._with_drawn_crops() if config.dataset.crop == BOXES else dataset

    def with_crops(self, crops: Float32[np.ndarray, "n 5"]) -> "PreparedDataset":
        """The same photographs, each cropped to a box; see `crops`."""
        return dataclasses.replace(self, crops=crops)

    def _with_drawn_crops(self) -> "PreparedDataset":
        return self.with_crops(np.pad(self.boxes, ((0, 0), (0, 1)), constant_values=np.nan))

    def located(self, split: str) -> list[LocatedBox]:
        """The boxes of a split that a localiser has found; none without one."""
        if self.crops is None:
            return []
        rows = self.crops[np.array(self.assignment.split) == split].tolist()
        return [LocatedBox((left, top, right, bottom), c) for left, top, right, bottom, c in rows if not math.isnan(c)]

    def jpeg(self, row: int) -> bytes:
        """The stored JPEG of a row of the manifest."""
        source, place = self._stored[row]
        return source[place]["image"]

    def examples(self, split: str, *, to_train: bool = False) -> Examples:
        """The photographs of 'train', 'validation', 'test' or 'rejected'; for a localiser those that have boxes.

        Args:
          split: its name.
          to_train: with the targets that `config.dataset.readers` makes.

        Raises:
          DatasetError: there is no such split, or no photograph of it has a box.
          ReadersError: see `reader_labels.read_labels`.
        """
        if split not in self.assignment.split:
            raise DatasetError(f"{self._options.name} has no split {split!r}; it has {', '.join(self.splits)}")
        is_used = np.array([s == split for s in self.assignment.split])
        boxes = np.full((len(is_used), 4), np.nan, np.float32)
        if self._needs_boxes:
            boxes = self.boxes
            is_used &= ~np.isnan(boxes[:, 0])
        rows = np.flatnonzero(is_used).tolist()
        if not rows:
            raise DatasetError(f"no photograph of split {split!r} has a box; {BOXES_INSTRUCTIONS}")
        return Examples(
            [self._stored[i] for i in rows],
            self.assignment.labels[rows],
            self.assignment.class_names,
            [self.manifest.names[i] for i in rows],
            self.manifest.groups[rows],
            boxes[rows],
            None if self.crops is None else self.crops[rows, :4],
            self._options,
            with_boxes=self._needs_boxes,
            targets=self._reader_targets(rows) if to_train and self._options.get("readers") else None,
        )

    def _reader_targets(self, rows: Sequence[int]) -> Float32[np.ndarray, "n k"]:
        """What photographs are trained towards, by the labels of their readers."""
        classes, names = self.assignment.class_names, self.manifest.names
        readings = read_labels(Path(self._options.readers), names, classes)
        counts = count_readers(readings, names, len(classes))[rows]
        log(f"labels of {len(readings)} readers: {counts.any(axis=1).sum()} of {len(rows)} training images")
        return reader_targets(counts, self.assignment.labels[rows])


def load_dataset(
    config: ml_collections.ConfigDict, manual_dir: str | None = None, data_dir: str | None = None
) -> PreparedDataset:
    """The data set that a config names, built if it is not on disk yet.

    Args:
      config: `config.dataset` and `config.selection` are read.
      manual_dir: folder of raw photographs, if not `config.dataset.manual_dir`.
      data_dir: root of prepared data sets, if not `config.dataset.data_dir`.

    Raises:
      ManualDirError: the raw photographs are needed and missing.
      PhotographTableError: `dataset.manual_dir` is a table of them that cannot be used.
      DatasetError: there is no such data set, or it was prepared from other photographs than `dataset.manual_dir`
        holds.
      CaseError: `config.dataset.case_pattern` fits no photograph.
    """
    dataset = ml_collections.ConfigDict(config.dataset).unlock()
    dataset.update({k: v for k, v in {"manual_dir": manual_dir, "data_dir": data_dir}.items() if v is not None})
    builder = _build(dataset)
    decoders = {"image": tfds.decode.SkipDecoding()}
    sources = [builder.as_data_source(split, decoders=decoders) for split in builder.info.splits]
    stored = [(source, i) for source in sources for i in range(len(source))]
    manifest = _load_manifest(builder, stored)
    cases = cases_by_pattern(manifest.names, dataset.get("case_pattern"))
    manifest = dataclasses.replace(manifest, groups=unite(manifest.groups, manifest.names, cases))
    assignment = _assign(manifest, config.selection)
    data = PreparedDataset(builder, manifest, assignment, None, dataset, config.task == "localise", stored)
    return data._with_drawn_crops() if dataset.crop == BOXES else data


def extract_with_beam(config: ml_collections.ConfigDict, beam_options: Sequence[str]) -> None:
    """Extracts the features of a config's raw photographs with Apache Beam, for `load_dataset` to build from.

    Does nothing if the data set is on disk. If it is killed, it starts from the beginning.

    Raises:
      ManualDirError: the raw photographs are missing.
      DatasetError: there is no such data set, its photographs are drawn, or Beam is not installed.
    """
    dataset = config.dataset
    builder = _find_builder(dataset)
    if builder.builder_config.synthetic:
        raise DatasetError(f"--beam reads the photographs of a folder, but {dataset.name} draws them")
    if builder.data_path.exists():
        return
    if dataset.manual_dir is None:
        raise ManualDirError("config.dataset.manual_dir is not given", DOWNLOAD_INSTRUCTIONS)
    if importlib.util.find_spec("apache_beam") is None:
        raise DatasetError("--beam needs Apache Beam, in an environment of its own: see launch/beam.lock")
    from cervix_jax.datasets import beam_features

    folder = _laid_out(builder, dataset.manual_dir)
    sources = {name: folder / name for name in scan(folder, additional=builder.builder_config.additional)}
    count = beam_features.extract_all(sources, feature_cache_path(Path(builder.data_path)), beam_options, inside=folder)
    log(f"extracted features of {count} photographs with Beam")


def _find_builder(dataset: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    """The builder of the data set on disk, whose version may be older than this code's, or of the one to make."""
    options = {"data_dir": dataset.data_dir, "file_format": "array_record"}
    try:
        newest = tfds.builder(dataset.name, **options)
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise DatasetError(f"config.dataset.name is {dataset.name!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(newest, Cervix):
        raise DatasetError(f"config.dataset.name is {dataset.name!r}, a data set of other pictures")
    if newest.data_path.exists():
        return newest
    older = [Cervix(config=newest.builder_config.name, version=version, **options) for version in Cervix.OLDER]
    return next((builder for builder in older if builder.data_path.exists()), newest)


def _build(dataset: ml_collections.ConfigDict) -> tfds.core.DatasetBuilder:
    builder = _find_builder(dataset)
    raw, additional = not builder.builder_config.synthetic, builder.builder_config.additional
    on_disk = builder.data_path.exists()
    if raw and dataset.manual_dir:
        dataset.manual_dir = str(_laid_out(builder, dataset.manual_dir))
    if raw and not on_disk:
        if dataset.manual_dir is None:
            raise ManualDirError("config.dataset.manual_dir is not given", DOWNLOAD_INSTRUCTIONS)
        folder = Path(dataset.manual_dir)
        log_found(folder, scan(folder, additional=additional))  # names what is missing, where TFDS would only assert
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    download = tfds.download.DownloadConfig(manual_dir=dataset.manual_dir or "none")
    if not on_disk:
        with exclusive(_root(builder) / LOCK, f"{_root(builder)}, where data sets are prepared", wait=True):
            builder = _find_builder(dataset)  # anew: another process may have built it meanwhile
            on_disk = builder.data_path.exists()
            if not on_disk:
                _remove_remains(builder)
                log(f"preparing {builder.data_path}")
                with contextlib.redirect_stdout(io.StringIO()):  # TFDS would speak of downloading
                    builder.download_and_prepare(download_config=download)
    if raw and on_disk and dataset.manual_dir:
        folder = Path(dataset.manual_dir)
        names, digests = scan(folder, additional=additional), None
        if str(builder.version) not in Cervix.OLDER:
            digests = file_digests(folder, names, digests_path(Path(builder.data_path)))
        fingerprint = fingerprint_of(folder, names, digests)
        if fingerprint != builder.info.metadata["fingerprint"]:
            raise DatasetError(
                f"{builder.data_path} was prepared from other photographs than {dataset.manual_dir} holds now; "
                "remove it, or give another data_dir"
            )
    return builder


def _assign(manifest: Manifest, selection: ml_collections.ConfigDict) -> SplitAssignment:
    """The splits that `config.selection` asks for, the file of excluded photographs read.

    Raises:
      SplitError: see `check_groups`.
      DatasetError: there is no such file, it has no column image_name, or it names no photograph, or one that may be
        several.
    """
    options = dict(selection)
    if selection.exclude:
        path, find = Path(selection.exclude), finder(manifest.names)
        rows = read_rows(path, ("image_name",), DatasetError)
        listed = {name: find(name) for _, row in rows if (name := from_cell(row["image_name"]))}
        for name, found in listed.items():
            if len(found) > 1:
                raise DatasetError(f"config.selection.exclude={path}: {name!r} may be {found[0]} or {found[1]}")
        options["exclude"] = frozenset(found[0] for found in listed.values() if found)
        if listed and not options["exclude"]:
            raise DatasetError(
                f"config.selection.exclude={path} names none of the photographs, which are as {manifest.names[0]!r}"
            )
        if strangers := sum(not found for found in listed.values()):
            log(f"{path}: {strangers} of {len(listed)} names are of no photograph of this data set")
    check_groups(manifest, selection.folds)
    return assign_splits(manifest, SplitConfig(**options))


def _laid_out(builder: tfds.core.DatasetBuilder, manual_dir: str) -> Path:
    """The folder of the raw photographs; that of a table is made."""
    path = Path(manual_dir)
    return lay_out(path, _root(builder)) if is_table(path) else path


def _root(builder: tfds.core.DatasetBuilder) -> Path:
    """The folder of all data sets."""
    return Path(builder.data_path).parents[2]


def _remove_remains(builder: tfds.core.DatasetBuilder) -> None:
    """Removes what builds that were killed have left of this data set; the caller is the only one who builds."""
    path = Path(builder.data_path)
    for remains in path.parent.glob(f"incomplete.*_{path.name}") if path.parent.is_dir() else []:
        shutil.rmtree(remains, ignore_errors=True)


def _load_manifest(builder: tfds.core.DatasetBuilder, stored: Sequence[tuple[Any, int]]) -> Manifest:
    """Reads the manifest beside the examples; or makes it from them, and keeps it, where none fits."""
    path = Path(builder.data_path) / MANIFEST_FILE
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    identity = json.dumps([str(builder.version), builder.info.metadata["fingerprint"], sizes])
    with contextlib.suppress(Exception):  # as many kinds as there are ways to damage it
        return _read_manifest(path, identity)
    manifest = _manifest_of_examples(stored)
    with contextlib.suppress(OSError), open_atomic(path, "wb") as file:  # a folder without write access is only slower
        np.savez(file, allow_pickle=False, identity=np.array(identity), **vars(manifest))
    return manifest


def _read_manifest(path: Path, identity: str) -> Manifest:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if arrays["identity"] != identity:
            raise ValueError(f"{path} belongs to another data set")
        columns = {field.name: arrays[field.name] for field in dataclasses.fields(Manifest)}
    return Manifest(**columns | {name: columns[name].tolist() for name in ("names", "source", "annotators")})


def _manifest_of_examples(stored: Sequence[tuple[Any, int]]) -> Manifest:
    rows = [{key: value for key, value in source[i].items() if key != "image"} for source, i in stored]
    names = [row["id"].decode() for row in rows]
    boxes = {name: _boxes_of(row) for name, row in zip(names, rows, strict=True)}
    return Manifest(
        names=names,
        source=[row["source"].decode() for row in rows],
        labels=np.array([row["label"] for row in rows], int),
        folder_labels=np.array([row["folder_label"] for row in rows], int),
        histograms=np.stack([row["histograms"] for row in rows]),
        sharpness=np.array([row["sharpness"] for row in rows], np.float32),
        groups=np.array([row["group"] for row in rows], int),
        annotators=annotations.annotators(boxes),
        boxes=annotations.to_array(boxes, names),
    )


def _boxes_of(row: Mapping[str, Any]) -> dict[str, Box]:
    """Boxes by annotator of one example; none in data sets of older versions."""
    stored = row.get("boxes", {"annotator": (), "box": ()})
    return {
        annotator.decode(): (float(left), float(top), float(right), float(bottom))
        for annotator, (top, left, bottom, right) in zip(stored["annotator"], stored["box"], strict=True)
    }
