"""The TFDS data set `cervix`: photographs of the cervix with the type of their transformation zone.

`cervix/synthetic` is drawn, needs no download and shows the whole job; `cervix/initial` and `cervix/cleaned` read the
folders of Kaggle's *Intel & MobileODT Cervical Cancer Screening* (report section 4.1), or anybody's in the same layout,
without and with the additional photographs. From plain TFDS:

    import cervix_jax.datasets.builder, tensorflow_datasets as tfds
    builder = tfds.builder("cervix/synthetic", file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source("train")

Every photograph that can be read is in exactly one split: `train` (initial ones and the additional ones that cleaning
keeps), `validation` (the last of five folds of the initial ones), `test` or `rejected`, and carries all that a
selection needs: another one is made when training starts (`splits.py`) and rebuilds nothing. Images are stored as
JPEG at most twice as large as networks see them, so that crops and other sizes rebuild nothing either. Files that
cannot be read are named with their reason in the metadata of the data set.
"""

import dataclasses
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from cervix_jax.datasets import feature_cache, kaggle
from cervix_jax.datasets.splits import ADDITIONAL, INITIAL, TEST, Manifest, SplitAssignment, SplitConfig, assign_splits
from cervix_jax.errors import UserError
from cervix_jax.images import features, near_duplicates, synthetic
from cervix_jax.images.files import find_photographs, leaves, read_bytes
from cervix_jax.labels import CLASS_NAMES

UNLABELLED = -1
SOURCES = {"train": INITIAL, "additional": ADDITIONAL, "test": TEST}  # by folder

DOWNLOAD_INSTRUCTIONS = """\
cervix/initial and cervix/cleaned are built from photographs that only Kaggle may hand out. Once:
  1. Accept the rules of https://www.kaggle.com/c/intel-mobileodt-cervical-cancer-screening
  2. kaggle competitions download -c intel-mobileodt-cervical-cancer-screening -f train.7z     (and -f test.7z)
  3. 7z x train.7z -oDIR; 7z x test.7z -oDIR
  4. for cervix/cleaned also additional_Type_1_v2.7z, _2_ and _3_: 7z x additional_Type_1_v2.7z -oDIR/additional
     (without additional photographs: --config.dataset.name=cervix/initial)
so that DIR holds train/Type_1, train/Type_2, train/Type_3 (and test/, additional/Type_1 ...), and name it:
--config.dataset.manual_dir=DIR.
Your own photographs in the same folders work too."""


class ManualDirError(UserError):
    """The folder of raw photographs is not there or not laid out as expected; the message says what to download."""


@dataclasses.dataclass
class CervixConfig(tfds.core.BuilderConfig):
    """One of the data sets.

    Attributes:
      drawn: photographs are drawn, not read.
      additional: additional photographs belong to it.
    """

    drawn: bool = False
    additional: bool = True


class Cervix(tfds.core.GeneratorBasedBuilder):
    """See the module's documentation."""

    VERSION = tfds.core.Version("2.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD_INSTRUCTIONS
    BUILDER_CONFIGS: Sequence[CervixConfig] = (
        CervixConfig(name="synthetic", description="Drawn photographs, labelled by construction.", drawn=True),
        CervixConfig(
            name="initial",
            description="The initial photographs of the competition (report section 4.1).",
            additional=False,
        ),
        CervixConfig(name="cleaned", description="And the additional ones, cleaned (report section 10)."),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),  # corrected; -1: unlabelled
                    "folder_label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
                    "id": tfds.features.Text(),  # path inside the raw folder
                    "source": tfds.features.Text(),  # initial, additional or test
                    "original_size": tfds.features.Tensor(shape=(2,), dtype=np.int32),  # height, width, upright
                    "histograms": tfds.features.Tensor(shape=(features.NUM_FEATURES,), dtype=np.float32),
                    "log_density": tfds.features.Scalar(np.float64),
                    "sharpness": tfds.features.Scalar(np.float32),
                    "group": tfds.features.Scalar(np.int32),  # the same for near-duplicates
                    "fold": tfds.features.Scalar(np.int32),  # -1 outside the initial photographs
                    "reason": tfds.features.Text(),  # why it is rejected
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.kaggle.com/c/intel-mobileodt-cervical-cancer-screening",
            metadata=tfds.core.MetadataDict(dropped={}, fingerprint="", notes=[]),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config: CervixConfig = self.builder_config
        facts = kaggle.Facts()
        if config.drawn:
            drawn, labels = _draw_all()
            fingerprint = hashlib.sha256(b"".join(drawn.values())).hexdigest()
            sources: dict[str, feature_cache.Source] = dict(drawn)
            folder = None
        else:
            folder = Path(dl_manager.manual_dir)
            labels = scan(folder, additional=config.additional)
            fingerprint = fingerprint_of(folder, additional=config.additional)
            sources = {name: folder / name for name in labels}
            facts = kaggle.facts(folder, labels)
        cache = feature_cache_path(Path(self.data_dir))
        sources = {name: source for name, source in sources.items() if name not in facts.removed}
        measured = feature_cache.extract_all(sources, cache, inside=folder)
        rows, manifest = make_manifest(measured, labels, facts)
        unreadable = {name: reason for name, reason in zip(measured.names, measured.reasons, strict=True) if reason}
        self.info.metadata.update(dropped=unreadable | facts.removed, fingerprint=fingerprint, notes=facts.notes)
        assignment = assign_splits(manifest, SplitConfig())
        return {
            split: self._generate_examples(
                measured, manifest, assignment, rows, [i for i, s in enumerate(assignment.split) if s == split]
            )
            for split in ("train", "validation", "test", "rejected")
            if split in assignment.split
        }

    def _generate_examples(
        self,
        measured: feature_cache.FeatureTable,
        manifest: Manifest,
        assignment: SplitAssignment,
        rows: Sequence[int],
        indices: Sequence[int],
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for i, jpeg in zip(indices, measured.jpegs([rows[i] for i in indices]), strict=True):
            yield (
                manifest.names[i],
                {
                    "image": jpeg,
                    "label": manifest.labels[i],
                    "folder_label": manifest.folder_labels[i],
                    "id": manifest.names[i],
                    "source": manifest.source[i],
                    "original_size": measured.original_size[rows[i]],
                    "histograms": manifest.histograms[i],
                    "log_density": assignment.log_density[i],
                    "sharpness": manifest.sharpness[i],
                    "group": manifest.groups[i],
                    "fold": assignment.folds[i],
                    "reason": assignment.reasons[i],
                },
            )


def feature_cache_path(data_path: Path) -> Path:
    """Where the measurements of a data set's photographs are kept, beside all data sets."""
    return data_path.parents[2] / "cervix_measurements.sqlite"


def make_manifest(
    measured: feature_cache.FeatureTable, labels: Mapping[str, int], facts: kaggle.Facts
) -> tuple[list[int], Manifest]:
    """The photographs that can be read: their rows in `measured`, and what selecting them needs."""
    rows = [i for i, reason in enumerate(measured.reasons) if not reason]
    names = [measured.names[i] for i in rows]
    folder_labels = np.array([labels[name] for name in names], int)
    corrected = np.array([facts.labels.get(name, labels[name]) for name in names], int)
    return rows, Manifest(
        names=names,
        source=[SOURCES[name.split("/")[0]] for name in names],
        labels=corrected,
        folder_labels=folder_labels,
        histograms=measured.histograms[rows],
        sharpness=measured.sharpness[rows],
        groups=near_duplicates.groups(measured.signatures[rows]),
    )


def scan(folder: Path, *, additional: bool) -> dict[str, int]:
    """Paths of the photographs inside a raw folder, and what their folders log they are (0, 1, 2; -1 in test/).

    Raises:
      ManualDirError: a folder is missing, holds no pictures or lies elsewhere.
    """
    parts = {f"train/{name}": label for label, name in enumerate(CLASS_NAMES)}
    if additional:
        parts |= {f"additional/{name}": label for label, name in enumerate(CLASS_NAMES)}
    if (folder / "test").is_dir():
        parts["test"] = UNLABELLED
    labels: dict[str, int] = {}
    for name, label in parts.items():
        part = folder / name
        if leaves(part, folder):
            raise ManualDirError(f"{part} is a link that leaves {folder}, which is not followed")
        found = find_photographs(part, inside=folder) if part.is_dir() else []
        if not found and label != UNLABELLED:
            state = "holds no pictures" if part.is_dir() else "is missing"
            raise ManualDirError(f"{part} {state}.\n{DOWNLOAD_INSTRUCTIONS}")
        labels |= {path.relative_to(folder).as_posix(): label for path in found}
    return labels


def fingerprint_of(folder: Path, *, additional: bool) -> str:
    """SHA-256 over Kaggle's tables and names and sizes of the photographs; the same wherever the folder lies."""
    digest = hashlib.sha256()
    for name in sorted(scan(folder, additional=additional)):
        path = folder / name
        size = path.stat().st_size if path.exists() and not leaves(path, folder) else 0
        digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
    for manifest in kaggle.TABLES:
        if (folder / manifest).is_file():
            digest.update(read_bytes(folder / manifest, inside=folder))
    return digest.hexdigest()


def _draw_all() -> tuple[dict[str, bytes], dict[str, int]]:
    """JPEGs and labels of the drawn photographs, by name."""
    sources, labels = {}, {}
    for photograph in synthetic.photographs():
        out = io.BytesIO()
        Image.fromarray(photograph.image).save(out, "JPEG", quality=90)
        sources[photograph.name], labels[photograph.name] = out.getvalue(), photograph.label
    return sources, labels
