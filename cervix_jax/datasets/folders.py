"""The layout of a folder of photographs, the same for every program that is given one.

The initial photographs lie in `DIR/train/Type_1` to `Type_3`, as Kaggle's do, or in `DIR/Type_1` to `Type_3`;
additional ones, if there are any, in `DIR/additional/Type_1` to `Type_3`, and those without a type in `DIR/test`.
"""

from collections.abc import Mapping
from pathlib import Path

from cervix_jax.datasets.splits import ADDITIONAL, INITIAL, TEST
from cervix_jax.errors import UserError
from cervix_jax.images.files import SUFFIXES, find_photographs, is_hidden, kinds_not_read, leaves
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.progress import log

UNLABELLED = -1
TRAIN = "train"
SOURCES = {TRAIN: INITIAL, "additional": ADDITIONAL, "test": TEST}  # by the folder's name


class ManualDirError(UserError):
    """The folder of raw photographs is missing or not laid out as expected; the message says what to do."""


def types_folder(folder: Path) -> Path:
    """The folder of Type_1 to Type_3: `train` in the folder given if it holds any of them, else that itself."""
    train = folder / TRAIN
    return train if any((train / name).is_dir() for name in CLASS_NAMES) else folder


def source_of(name: str) -> str:
    """Whether a photograph is an initial, additional or test one, by its path inside the raw folder."""
    return SOURCES.get(name.split("/")[0], INITIAL)


def scan(folder: Path, *, additional: bool, complete: bool = True) -> dict[str, int]:
    """The photographs of a raw folder: paths inside it, and the labels of their subfolders (0, 1, 2; -1 in test/).

    Args:
      folder: the raw folder.
      additional: whether additional photographs are read.
      complete: whether there have to be some of each type.

    Raises:
      ManualDirError: a subfolder is missing, holds no pictures or is a link that leads elsewhere.
    """
    if not folder.is_dir():
        raise ManualDirError(f"there is no folder {folder}")
    types = types_folder(folder)
    places = {types / name: label for label, name in enumerate(CLASS_NAMES)}
    if additional:
        places |= {folder / "additional" / name: label for label, name in enumerate(CLASS_NAMES)}
    if (folder / "test").is_dir():
        places[folder / "test"] = UNLABELLED
    labels: dict[str, int] = {}
    for place, label in places.items():
        if leaves(place, folder):
            raise ManualDirError(f"{place} is a link that leaves {folder}, which is not followed")
        paths = find_photographs(place, inside=folder) if place.is_dir() else []
        if not paths and label != UNLABELLED and (complete or place.parent.name != "additional"):
            wanted = f"Type_1, Type_2 and Type_3 are expected in {folder}/train or in {folder}"
            if place.parent.name == "additional":
                wanted = "without additional photographs: --config.dataset.name=cervix/initial"
            raise ManualDirError(f"{place} {'holds no pictures' if place.is_dir() else 'is missing'}; {wanted}")
        labels |= {path.relative_to(folder).as_posix(): label for path in paths}
    return labels


def log_found(folder: Path, labels: Mapping[str, int]) -> None:
    """Logs a line: how many photographs lie where, and for each kind of file and folder that is not read another.

    Args:
      folder: the raw folder.
      labels: from `scan`.
    """
    counts: dict[str, int] = {}
    for name in labels:
        parts = name.split("/")[:-1] or [name]  # a folder that cannot be listed stands for itself
        place = "/".join(parts[: 1 if parts[0] in ("test", *CLASS_NAMES) else 2])
        counts[place] = counts.get(place, 0) + 1
    log(f"found in {folder}: {', '.join(f'{place} {count}' for place, count in counts.items())}")
    for line in not_read(folder):
        log(line)


def not_read(folder: Path) -> list[str]:
    """A line for each kind of file, and each folder, that lies among the photographs and is not read."""
    types = types_folder(folder)
    lines, others = [], []
    places = {types / name for name in CLASS_NAMES} | {folder / name for name in SOURCES}
    paths = {path for place in places if place.is_dir() for path in place.rglob("*")}
    paths |= {path for place in (types, folder / "additional") if place.is_dir() for path in place.iterdir()}
    for path in sorted(paths - places):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and path.parent in (types, folder / "additional") and path.name not in CLASS_NAMES:
            lines.append(f"not read: the folder {name}, which is none of {', '.join(CLASS_NAMES)}")
        elif path.parent == folder or path.suffix.lower() in SUFFIXES or any(map(is_hidden, Path(name).parts)):
            continue  # tables and boxes beside the photographs, photographs, hidden files
        elif path.is_file():
            others.append(name)
    return lines + kinds_not_read(others)
