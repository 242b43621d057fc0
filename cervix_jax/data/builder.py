"""The TFDS data set `cervix`: photographs of the cervix with the type of their transformation zone.

`cervix/synthetic` is drawn, needs no download and shows the whole job; `cervix/initial` reads the folders of Kaggle's
*Intel & MobileODT Cervical Cancer Screening* (report section 4.1), or anybody's in the same layout. From plain TFDS:

    import cervix_jax.data.builder, tensorflow_datasets as tfds
    builder = tfds.builder("cervix/synthetic", file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source("train")

Images are stored as JPEG at most twice as large as networks see them, so that crops and other sizes rebuild nothing.
Every initial example is in exactly one split and carries its fold; `validation` is the last of five stratified folds.
Files that cannot be read are left out, and named with their reason in the metadata of the data set.
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

from cervix_jax.data import synthetic
from cervix_jax.data.photographs import (
    CLASS_NAMES,
    UnreadableError,
    find_photographs,
    leaves,
    read_bytes,
    to_stored_jpeg,
)
from cervix_jax.errors import UserError

STORED_SIZE = (640, 480)  # height, width in pixels: twice the report's 320 x 240
NUM_FOLDS = 5  # 20 % validation: all but one of the report's accuracies are k/296, and 1481 / 5 = 296
UNLABELLED = -1

DOWNLOAD_INSTRUCTIONS = """\
cervix/initial is built from photographs that only Kaggle may hand out. Once:
  1. Accept the rules of https://www.kaggle.com/c/intel-mobileodt-cervical-cancer-screening
  2. kaggle competitions download -c intel-mobileodt-cervical-cancer-screening -f train.7z     (and -f test.7z)
  3. 7z x train.7z -oDIR; 7z x test.7z -oDIR
so that DIR holds train/Type_1, train/Type_2, train/Type_3 (and test/), and name it: --config.dataset.manual_dir=DIR.
Your own photographs in the same folders work too."""


class ManualDirError(UserError):
    """The folder of raw photographs is not there or not laid out as expected; the message says what to download."""


@dataclasses.dataclass
class CervixConfig(tfds.core.BuilderConfig):
    """One of the data sets: `synthetic` or `initial`."""


class Cervix(tfds.core.GeneratorBasedBuilder):
    """See the module's documentation."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = DOWNLOAD_INSTRUCTIONS
    BUILDER_CONFIGS: Sequence[CervixConfig] = (
        CervixConfig(name="synthetic", description="Drawn photographs, labelled by construction."),
        CervixConfig(name="initial", description="The initial photographs of the competition (report section 4.1)."),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),  # -1: unlabelled
                    "id": tfds.features.Text(),  # path inside the raw folder
                    "original_size": tfds.features.Tensor(shape=(2,), dtype=np.int32),  # height, width, upright
                    "fold": tfds.features.Scalar(np.int32),  # -1 outside the labelled initial set
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.kaggle.com/c/intel-mobileodt-cervical-cancer-screening",
            metadata=tfds.core.MetadataDict(dropped={}, fingerprint=""),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        if self.builder_config.name == "synthetic":
            drawn, labels = _draw_all()
            fingerprint = hashlib.sha256(b"".join(drawn.values())).hexdigest()
            sources: dict[str, Path | bytes] = dict(drawn)
            folder = None
        else:
            folder = Path(dl_manager.manual_dir)
            labels, fingerprint = scan(folder), fingerprint_of(folder)
            sources = {name: folder / name for name in labels}
        self.info.metadata["fingerprint"] = fingerprint
        folds = stratified_folds({k: v for k, v in labels.items() if k.startswith("train/")}, NUM_FOLDS)
        parts: dict[str, list[str]] = {"train": [], "validation": []}
        for name in labels:
            part = name.split("/")[0]
            if folds.get(name) == NUM_FOLDS - 1:
                part = "validation"
            parts.setdefault(part, []).append(name)
        return {
            part: self._generate_examples({n: (sources[n], labels[n], folds.get(n, -1)) for n in names}, folder)
            for part, names in parts.items()
        }

    def _generate_examples(
        self, photographs: Mapping[str, tuple[Path | bytes, int, int]], folder: Path | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, (source, label, fold) in photographs.items():
            try:
                if name.encode(errors="replace").decode() != name:
                    raise UnreadableError("a name that is not UTF-8, which an id has to be")
                raw = source if isinstance(source, bytes) else read_bytes(source, inside=folder)
                stored, size = to_stored_jpeg(raw, STORED_SIZE)
            except UnreadableError as error:
                self.info.metadata["dropped"][name] = str(error)
                continue
            yield name, {"image": stored, "label": label, "id": name, "original_size": size, "fold": fold}


def scan(folder: Path) -> dict[str, int]:
    """Paths of the initial photographs inside a raw folder, and their labels (0, 1, 2; -1 in test/).

    Raises:
      ManualDirError: a folder is missing, holds no pictures or lies elsewhere.
    """
    labels: dict[str, int] = {}
    parts = {f"train/{name}": label for label, name in enumerate(CLASS_NAMES)}
    if (folder / "test").is_dir():
        parts["test"] = UNLABELLED
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


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over names and sizes of the photographs of a raw folder; the same wherever the folder lies."""
    digest = hashlib.sha256()
    for name in sorted(scan(folder)):
        path = folder / name
        size = path.stat().st_size if path.exists() and not leaves(path, folder) else 0
        digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def stratified_folds(labels: Mapping[str, int], num_folds: int) -> dict[str, int]:
    """A fold (0 to num_folds - 1) for each name: class shares and sizes of the folds differ by at most one example.

    Within a class the order is that of a hash of the name, so folds do not follow the order in which pictures were
    taken, and are the same on every machine.
    """
    order = sorted(
        labels, key=lambda name: (labels[name], hashlib.sha256(name.encode(errors="surrogateescape")).digest())
    )
    return {name: position % num_folds for position, name in enumerate(order)}


def _draw_all() -> tuple[dict[str, bytes], dict[str, int]]:
    """JPEGs and labels of the drawn photographs, by name."""
    sources, labels = {}, {}
    for photograph in synthetic.photographs():
        out = io.BytesIO()
        Image.fromarray(photograph.image).save(out, "JPEG", quality=90)
        sources[photograph.name], labels[photograph.name] = out.getvalue(), photograph.label
    return sources, labels
