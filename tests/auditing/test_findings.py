"""The audit reports what was planted, and nothing else."""

import numpy as np
import pytest

from cervix_jax.auditing import findings


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("damaged", {"train/Type_1/empty.jpg"}),
        ("uniform_band", {"train/Type_2/lost.jpg"}),
        ("blurred", {"train/Type_2/blurred.jpg"}),
        ("dark", {"train/Type_2/dark.jpg"}),
        ("bright", {"train/Type_2/bright.jpg"}),
        ("green_filter", {"train/Type_2/green <i>.jpg"}),
        ("orientation", {"train/Type_2/landscape.jpg"}),
        ("uncorrected_label", set()),
    ],
)
def test_what_was_planted_is_found(audit, kind, names):
    planted = {finding.name for finding in audit.of(kind) if not finding.name.startswith("additional/")}
    assert names <= planted
    assert len(planted) <= len(names) + (2 if kind in ("blurred", "dark", "bright", "green_filter") else 0)


def test_copies_are_one_group_and_their_types_conflict(audit, folder):
    original = f"train/Type_2/{min((folder / 'train/Type_2').iterdir()).name}"
    group = {finding.name: finding.group for finding in audit.of("near_duplicates")}
    assert group[original] == group["train/Type_3/conflict.jpg"] == group["additional/Type_2/copy.jpg"]
    conflicts = {finding.name for finding in audit.of("label_conflict")}
    assert {original, "train/Type_3/conflict.jpg"} <= conflicts
    rejected = {f.name: f.detail for f in audit.of("rejected")}
    assert rejected["additional/Type_2/copy.jpg"] == "near_duplicate"
    assert rejected[f"additional/Type_1/{min((folder / 'additional/Type_1').iterdir()).name}"] == "near_duplicate"


def test_a_case_that_lies_in_two_types_is_found(audit, folder):
    original = f"train/Type_2/{min((folder / 'train/Type_2').iterdir()).name}"
    found = {finding.name: finding.detail for finding in audit.of("case_conflict")}
    assert {original, "train/Type_3/conflict.jpg"} < set(found)
    assert set(found.values()) == {"case A: additional, Type_1 + train, Type_2 + train, Type_3"}


def test_counts_are_of_what_can_be_read(audit):
    assert sum(audit.counts["train"].values()) == 36 + 7
    assert audit.counts["test"] == {"unlabelled": 4}


@pytest.mark.parametrize(
    ("rows", "level", "expected"), [(8, 128, 0.1), (40, 128, 0.5), (2, 128, 0), (8, 0, 0), (40, 0, 0.5)]
)
def test_bands_are_flat_and_black_ones_only_if_they_are_high(rows, level, expected):
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3)).astype(np.uint8)
    image[80 - rows :] = level
    assert findings.band_height(image) == expected
