"""Findings about a folder of photographs, before anything is trained on it.

Damaged files, near-duplicates within and across subfolders, the same scene under two labels, corrections by Kaggle that
the folders lack, bands where a transfer lost the picture, blur, exposure, colour, orientation, and what cleaning would
reject. All are computed from the features that a data set is built from, and from the pixels of the stored JPEGs.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from cervix_jax.auditing.box_findings import BOX_KINDS, box_findings
from cervix_jax.auditing.suspicious_labels import suspicious_findings
from cervix_jax.datasets import annotations, feature_cache, kaggle
from cervix_jax.datasets.builder import make_manifest
from cervix_jax.datasets.cases import find_cases, unite
from cervix_jax.datasets.folders import SOURCES, log_found, scan
from cervix_jax.datasets.splits import ADDITIONAL, Manifest, SplitAssignment, SplitConfig, assign_splits, check_groups
from cervix_jax.images.boxes import draw_boxes
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.features import FEATURE_SIZE
from cervix_jax.images.geometry import CropResize
from cervix_jax.labels import CLASS_NAMES

KINDS: Mapping[str, str] = {
    "damaged": "Files that cannot be read.",
    "uniform_band": "The lower part is one flat colour, as where a transfer broke off.",
    "near_duplicates": "The same scene more than once; training and validation must not share one.",
    "label_conflict": "The same scene under different types.",
    "case_conflict": "A case whose photographs lie in several folders or under several types.",
    "uncorrected_label": "A published correction gives another type than the folder does.",
    "suspicious_label": "Predictions by a model that has not seen the photograph are confident of another type.",
    "blurred": "Far less sharp in the middle than the others (below Tukey's fence of the logarithm).",
    "dark": "Far darker than the others, or all but black.",
    "bright": "Far brighter than the others, or all but white.",
    "green_filter": "Green outweighs red and blue by a fifth: taken through a colposcope's green filter.",
    "orientation": "Landscape where most are portrait, or the other way round.",
    "rejected": "Additional photographs that cleaning would drop (report section 10).",
    **BOX_KINDS,
}

_BAND_ROWS = 0.04  # of the height; chance runs of equal rows are shorter
_BLACK_BAND_ROWS = 0.2  # below a round field of view; of 2,200 of Kaggle's photographs only the damaged one has more
_BAND_LEVELS = 3  # grey levels within which a band counts as one colour: JPEG's noise in flat areas
_BLACK = 16  # mean level of a border that is only dark, as around a round field of view


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that stands out about a photograph.

    Attributes:
      kind: one of KINDS.
      name: path of the photograph inside the folder.
      detail: a few words, for people.
      group: number of its group of near-duplicates, -1 if none.
    """

    kind: str
    name: str
    detail: str
    group: int = -1


@dataclasses.dataclass(frozen=True)
class Audit:
    """All findings about a folder.

    Attributes:
      findings: in the order of KINDS.
      counts: number of photographs that can be read, by subfolder ('.' is the folder itself) and type.
      table: features of all photographs.
      rows: the rows of `table` that are in `manifest`: photographs that can be read.
      manifest: their labels and features.
      assignment: their splits by default.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, int]]
    table: feature_cache.FeatureTable
    rows: list[int]
    manifest: Manifest
    assignment: SplitAssignment

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def picture(self, name: str, *, with_boxes: bool = False) -> UInt8[np.ndarray, "320 240 3"]:
        """Pixels of a photograph that can be read; with the boxes that were drawn, a colour for each person."""
        i = self.manifest.names.index(name)
        pixels = _pixels(next(self.table.jpegs([self.rows[i]])))
        return draw_boxes(pixels, self.manifest.boxes[i].tolist()) if with_boxes else pixels


def audit_folder(folder: Path, cache: Path, predictions: Path | None = None, case_pattern: str | None = None) -> Audit:
    """Audits the initial photographs, and the additional and test ones if there are any.

    Args:
      folder: raw photographs.
      cache: SQLite file of features; made if missing.
      predictions: see `suspicious_findings`; without them labels are not doubted.
      case_pattern: see `cases.cases_by_pattern`; `cases.csv` in the folder is read too.

    Raises:
      ManualDirError: the folder is not laid out as expected.
      PredictionsError: see `suspicious_findings`.
    """
    additional = folder / "additional"
    labels = scan(folder, additional=additional.is_dir(), complete=False)
    log_found(folder, labels)
    corrections = kaggle.find_corrections(folder, labels)
    table = feature_cache.extract_all({name: folder / name for name in labels}, cache, inside=folder)
    boxes, _ = annotations.read_boxes(folder, labels)
    rows, manifest = make_manifest(table, labels, corrections, boxes)
    cases = find_cases(folder, manifest.names, case_pattern)
    by_case = dataclasses.replace(manifest, groups=unite(manifest.groups, manifest.names, cases))
    check_groups(by_case, 2)
    assignment = assign_splits(by_case, SplitConfig())
    findings = [
        *(Finding("damaged", name, reason) for name, reason in zip(table.names, table.reasons, strict=True) if reason),
        *_pixel_findings(manifest, table, rows),
        *(Finding(*finding) for finding in box_findings(manifest)),
        *_group_findings(manifest),
        *_label_findings(manifest),
        *(Finding(*finding) for finding in (suspicious_findings(manifest, predictions) if predictions else ())),
        *_case_findings(manifest, cases),
        *(
            Finding("rejected", name, reason)
            for name, reason in zip(manifest.names, assignment.reasons, strict=True)
            if reason
        ),
    ]
    order = list(KINDS)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, label in zip(manifest.names, manifest.labels, strict=True):
        place = name.split("/")[0]
        counts[place if place in SOURCES else "."][CLASS_NAMES[label] if label >= 0 else "unlabelled"] += 1
    return Audit(
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.kind))),
        counts={subfolder: dict(sorted(count.items())) for subfolder, count in counts.items()},
        table=table,
        rows=rows,
        manifest=manifest,
        assignment=assignment,
    )


def additional_features(audit: Audit) -> Iterator[tuple[str, float, float, str]]:
    """Name, log density, sharpness and reason of rejection ('' if kept) of each additional photograph."""
    for i in _indices(audit.manifest.of(ADDITIONAL)):
        yield (
            audit.manifest.names[i],
            float(audit.assignment.log_density[i]),
            float(audit.manifest.sharpness[i]),
            audit.assignment.reasons[i],
        )


def band_height(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Fraction of the height that one flat colour fills from below; 0 for the black border of a round field of view."""
    last = image[-1].reshape(-1, 3).astype(int)
    colour = np.median(last, axis=0)
    flat = (np.abs(image.astype(int) - colour).max(axis=(1, 2)) <= _BAND_LEVELS)[::-1]
    rows = len(flat) if flat.all() else int(np.argmin(flat))
    fraction = rows / len(image)
    least = _BAND_ROWS if colour.mean() > _BLACK else _BLACK_BAND_ROWS
    return fraction if fraction >= least else 0.0


def outliers(values: Float[np.ndarray, "n"]) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Masks of values below and above Tukey's fences, one and a half interquartile ranges beyond the quartiles."""
    if len(values) == 0:
        return np.zeros(0, bool), np.zeros(0, bool)
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = 1.5 * (upper - lower)
    return values < lower - reach, values > upper + reach


def _pixels(jpeg: bytes) -> UInt8[np.ndarray, "320 240 3"]:
    return CropResize(FEATURE_SIZE)(read_photograph(jpeg))


def _pixel_findings(manifest: Manifest, table: feature_cache.FeatureTable, rows: list[int]) -> Iterator[Finding]:
    names = manifest.names
    colour, bands = np.zeros((len(rows), 3)), np.zeros(len(rows))  # mean levels, 0 to 255; fractions of the height
    for i, jpeg in enumerate(table.jpegs(rows)):
        image = _pixels(jpeg)
        colour[i], bands[i] = image.mean(axis=(0, 1)), band_height(image)
    for i in _indices(bands > 0):
        yield Finding("uniform_band", names[i], f"the lower {bands[i]:.0%}")
    blurred, _ = outliers(np.log(np.maximum(manifest.sharpness, 1).astype(float)))
    for i in _indices(blurred):
        detail = f"sharpness {manifest.sharpness[i]:.0f}, median {np.median(manifest.sharpness):.0f}"
        yield Finding("blurred", names[i], detail)
    level = colour.mean(axis=1)
    dark, bright = outliers(level)
    for kind, mask in (("dark", dark | (level < _BLACK)), ("bright", bright | (level > 255 - _BLACK))):
        for i in _indices(mask):
            yield Finding(kind, names[i], f"mean level {level[i]:.0f}, median {np.median(level):.0f} of 255")
    red, green, blue = colour.T
    for i in _indices(green > 1.2 * np.maximum(red, blue)):
        yield Finding("green_filter", names[i], f"red {red[i]:.0f}, green {green[i]:.0f}, blue {blue[i]:.0f}")
    height, width = table.original_size[rows].T
    tilted = width > height if np.mean(width > height) < 0.5 else width < height
    for i in _indices(tilted):
        yield Finding("orientation", names[i], f"{width[i]} x {height[i]} pixels")


def _group_findings(manifest: Manifest) -> Iterator[Finding]:
    for group in _indices(np.bincount(manifest.groups) > 1):
        members = _indices(manifest.groups == group)
        sources = sorted({manifest.source[i] for i in members})
        for i in members:
            detail = f"{' + '.join(sources)}, {len(members)} pictures"
            yield Finding("near_duplicates", manifest.names[i], detail, group)
        types = sorted({CLASS_NAMES[manifest.labels[i]] for i in members if manifest.labels[i] >= 0})
        if len(types) > 1:
            for i in members:
                if manifest.labels[i] >= 0:
                    detail = f"{CLASS_NAMES[manifest.labels[i]]} here; the group has {', '.join(types)}"
                    yield Finding("label_conflict", manifest.names[i], detail, group)


def _case_findings(manifest: Manifest, cases: Mapping[str, str]) -> Iterator[Finding]:
    places: dict[str, set[str]] = {}
    for name, label in zip(manifest.names, manifest.labels.tolist(), strict=True):
        if name in cases:
            label_name = CLASS_NAMES[label] if label >= 0 else "unlabelled"
            places.setdefault(cases[name], set()).add(f"{name.split('/')[0]}, {label_name}")
    for name in manifest.names:
        if name in cases and len(places[cases[name]]) > 1:
            yield Finding("case_conflict", name, f"case {cases[name]}: {' + '.join(sorted(places[cases[name]]))}")


def _label_findings(manifest: Manifest) -> Iterator[Finding]:
    for i in _indices((manifest.labels != manifest.folder_labels) & (manifest.folder_labels >= 0)):
        folder, corrected = CLASS_NAMES[manifest.folder_labels[i]], CLASS_NAMES[manifest.labels[i]]
        yield Finding("uncorrected_label", manifest.names[i], f"in the folder of {folder}, corrected to {corrected}")


def _indices(mask: Bool[np.ndarray, "n"]) -> list[int]:
    return np.flatnonzero(mask).tolist()
