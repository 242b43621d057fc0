"""The TFDS data set `cervix`: photographs of the cervix with the type of their transformation zone.

`cervix/synthetic` is drawn, needs no download and shows the whole job; `cervix/initial` and `cervix/cleaned` read the
folders of Kaggle's *Intel & MobileODT Cervical Cancer Screening* (report section 4.1), or anybody's (`folders.py`),
without and with the additional photographs. From plain TFDS:

    import cervix_jax.datasets.builder, tensorflow_datasets as tfds
    builder = tfds.builder("cervix/synthetic", file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source("train")

Every photograph that can be read is in exactly one split: `train` (initial ones and the additional ones that cleaning
keeps), `validation` (the last of five folds of the initial ones), `test` or `rejected`, and its example has all that
`splits.assign_splits` needs: other splits are made when training starts and rebuild nothing. Images are stored as JPEG
at most twice as large as networks see them, so that crops and other sizes rebuild nothing either. Files that cannot be
read are named with their reason in the metadata of the data set.
"""

import dataclasses
import hashlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32
from PIL import Image

from cervix_jax.datasets import annotations, feature_cache, kaggle
from cervix_jax.datasets.cases import CASES, read_cases, unite
from cervix_jax.datasets.file_digests import NAME, file_digests
from cervix_jax.datasets.folders import ManualDirError, scan, source_of
from cervix_jax.datasets.splits import INITIAL, Manifest, SplitConfig, assign_splits
from cervix_jax.images import features, near_duplicates, synthetic
from cervix_jax.images.boxes import Box
from cervix_jax.images.files import leaves
from cervix_jax.labels import CLASS_NAMES

DOWNLOAD_INSTRUCTIONS = """\
cervix/initial and cervix/cleaned are built from photographs that only Kaggle may hand out. Once:
  1. Accept the rules of https://www.kaggle.com/c/intel-mobileodt-cervical-cancer-screening
  2. kaggle competitions download -c intel-mobileodt-cervical-cancer-screening -f train.7z     (and -f test.7z)
  3. 7z x train.7z -oDIR; 7z x test.7z -oDIR
  4. for cervix/cleaned also additional_Type_1_v2.7z, _2_ and _3_: 7z x additional_Type_1_v2.7z -oDIR/additional
     (without additional photographs: --config.dataset.name=cervix/initial)
so that DIR holds train/Type_1, train/Type_2, train/Type_3 (and test/, additional/Type_1 ...), and name it:
--config.dataset.manual_dir=DIR.
Your own photographs work too: DIR/Type_1, DIR/Type_2, DIR/Type_3, or the same folders in DIR/train."""


@dataclasses.dataclass
class CervixConfig(tfds.core.BuilderConfig):
    """Which photographs a data set holds.

    Attributes:
      synthetic: they are drawn, not read from a folder.
      additional: the additional photographs are among them.
    """

    synthetic: bool = False
    additional: bool = True


class _DatasetInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing: TFDS has no such data set in its bucket, and would leave an empty temporary folder at each look."""


class Cervix(tfds.core.GeneratorBasedBuilder):
    """See the module's documentation."""

    VERSION = tfds.core.Version("2.3.0")
    OLDER = ("2.2.0", "2.1.0", "2.0.0")  # that can be read: their fingerprint is of names and sizes, not of content
    WITHOUT_BOXES = ("2.1.0", "2.0.0")
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version(version) for version in OLDER]
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD_INSTRUCTIONS
    BUILDER_CONFIGS: Sequence[CervixConfig] = (
        CervixConfig(name="synthetic", description="Synthetic photographs, labelled by construction.", synthetic=True),
        CervixConfig(
            name="initial",
            description="The initial photographs of the competition (report section 4.1).",
            additional=False,
        ),
        CervixConfig(name="cleaned", description="And the additional ones, cleaned (report section 10)."),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        boxes = tfds.features.Sequence({"annotator": tfds.features.Text(), "box": tfds.features.BBoxFeature()})
        return _DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),  # corrected; -1: unlabelled
                    # What follows is for `Manifest`, whose attributes explain it.
                    "folder_label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
                    "id": tfds.features.Text(),  # path inside the raw folder
                    "source": tfds.features.Text(),
                    "histograms": tfds.features.Tensor(shape=(features.NUM_FEATURES,), dtype=np.float32),
                    "sharpness": tfds.features.Scalar(np.float32),
                    "group": tfds.features.Scalar(np.int32),
                }
                | ({"boxes": boxes} if str(self.version) not in self.WITHOUT_BOXES else {})
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.kaggle.com/c/intel-mobileodt-cervical-cancer-screening",
            metadata=tfds.core.MetadataDict(dropped={}, fingerprint="", notes=[]),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config: CervixConfig = self.builder_config
        corrections = kaggle.Corrections()
        if config.synthetic:
            drawn, labels, boxes = _draw_all()
            notes: list[str] = []
            cases: dict[str, str] = {}
            fingerprint = hashlib.sha256(b"".join(drawn.values())).hexdigest()
            sources: dict[str, feature_cache.Source] = dict(drawn)
            folder = None
        else:
            folder = Path(dl_manager.manual_dir)
            labels = scan(folder, additional=config.additional)
            by_content = str(self.version) not in self.OLDER
            digests = file_digests(folder, labels, digests_path(Path(self.data_dir))) if by_content else None
            fingerprint = fingerprint_of(folder, labels, digests)
            sources = {name: folder / name for name in labels}
            corrections = kaggle.find_corrections(folder, labels)
            boxes, notes = annotations.read_boxes(folder, labels)
            cases = read_cases(folder, list(labels))
        sources = {name: source for name, source in sources.items() if name not in corrections.removed}
        self._table = table = feature_cache.extract_all(sources, feature_cache_path(Path(self.data_dir)), inside=folder)
        rows, manifest = make_manifest(table, labels, corrections, boxes, cases)
        unreadable = {name: reason for name, reason in zip(table.names, table.reasons, strict=True) if reason}
        _check_types(manifest, labels, unreadable)
        self.info.metadata.update(
            dropped=unreadable | corrections.removed, fingerprint=fingerprint, notes=corrections.notes + notes
        )
        assigned = assign_splits(manifest, SplitConfig()).split
        return {
            split: self._generate_examples(table, manifest, rows, [i for i, s in enumerate(assigned) if s == split])
            for split in ("train", "validation", "test", "rejected")
            if split in assigned
        }

    def _generate_examples(
        self, table: feature_cache.FeatureTable, manifest: Manifest, rows: Sequence[int], indices: Sequence[int]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for i, jpeg in zip(indices, table.jpegs([rows[i] for i in indices]), strict=True):
            yield (
                manifest.names[i],
                {
                    "image": jpeg,
                    "label": manifest.labels[i],
                    "folder_label": manifest.folder_labels[i],
                    "id": manifest.names[i],
                    "source": manifest.source[i],
                    "histograms": manifest.histograms[i],
                    "sharpness": manifest.sharpness[i],
                    "group": manifest.groups[i],
                    "boxes": _to_bboxes(manifest.annotators, manifest.boxes[i]),
                },
            )

    def _post_download_and_prepare_hook(self) -> None:
        """Called by TFDS once the data set is complete: from now on it alone holds the JPEGs."""
        feature_cache.discard(self._table.digests, self._table.cache)


def feature_cache_path(data_path: Path) -> Path:
    """Where features are kept until the data set at `data_path` is built: in the root of all data sets."""
    return data_path.parents[2] / "cervix_measurements.sqlite"


def digests_path(data_path: Path) -> Path:
    """Where digests of raw photographs are kept: in the root of all data sets."""
    return data_path.parents[2] / NAME


def _to_bboxes(annotators: Sequence[str], boxes: Float32[np.ndarray, "a 4"]) -> list[dict[str, Any]]:
    """The boxes of one photograph as TFDS stores them."""
    return [
        {"annotator": name, "box": tfds.features.BBox(ymin=top, xmin=left, ymax=bottom, xmax=right)}
        for name, (left, top, right, bottom) in zip(annotators, boxes.tolist(), strict=True)
        if not math.isnan(left)
    ]


def make_manifest(
    table: feature_cache.FeatureTable,
    labels: Mapping[str, int],
    corrections: kaggle.Corrections,
    boxes: Mapping[str, Mapping[str, Box]],
    cases: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[int], Manifest]:
    """The rows of `table` whose photographs can be read, and the manifest of these, grouped by cases too."""
    rows = [i for i, reason in enumerate(table.reasons) if not reason]
    names = [table.names[i] for i in rows]
    folder_labels = np.array([labels[name] for name in names], int)
    corrected = np.array([corrections.labels.get(name, labels[name]) for name in names], int)
    return rows, Manifest(
        names=names,
        source=[source_of(name) for name in names],
        labels=corrected,
        folder_labels=folder_labels,
        histograms=table.histograms[rows],
        sharpness=table.sharpness[rows],
        groups=unite(near_duplicates.groups(table.signatures[rows]), names, cases),
        annotators=annotations.annotators(boxes),
        boxes=annotations.to_array(boxes, names),
    )


def _check_types(manifest: Manifest, labels: Mapping[str, int], unreadable: Mapping[str, str]) -> None:
    """Raises ManualDirError if no initial photograph of a type can be read: the type would vanish."""
    for label, type_name in enumerate(CLASS_NAMES):
        names = [name for name, given in labels.items() if given == label and source_of(name) == INITIAL]
        if names and not set(names) & set(manifest.names):
            reasons = sorted({unreadable[name] for name in names if name in unreadable})
            place = names[0].partition(type_name)[0] + type_name
            raise ManualDirError(f"no photograph of {place} can be read: {', '.join(reasons[:5])}")


def fingerprint_of(folder: Path, names: Iterable[str], digests: Mapping[str, str] | None) -> str:
    """SHA-256 over names and contents of the photographs, and of tables; the same wherever the folder lies.

    Args:
      folder: of raw photographs.
      names: of its photographs, see `scan`.
      digests: of their contents; None for their sizes instead, as data sets of OLDER versions have it.
    """
    digest = hashlib.sha256()
    photographs = sorted(names)
    for name in photographs:
        content = _size(folder / name, folder) if digests is None else digests[name]
        digest.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
    for table in (*kaggle.TABLES, CASES, *annotations.files(folder, photographs)):
        if (folder / table).is_file():
            digest.update((folder / table).read_bytes())
    return digest.hexdigest()


def _size(path: Path, folder: Path) -> int:
    return path.stat().st_size if path.exists() and not leaves(path, folder) else 0


def _draw_all() -> tuple[dict[str, bytes], dict[str, int], dict[str, dict[str, Box]]]:
    """JPEGs, labels and true boxes of the synthetic photographs, by name."""
    sources, labels, boxes = {}, {}, {}
    for photograph in synthetic.photographs():
        out = io.BytesIO()
        Image.fromarray(photograph.image).save(out, "JPEG", quality=90)
        sources[photograph.name], labels[photograph.name] = out.getvalue(), photograph.label
        if photograph.box is not None:
            boxes[photograph.name] = {"": photograph.box}
    return sources, labels, boxes
