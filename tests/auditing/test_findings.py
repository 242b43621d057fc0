"""The audit finds what was planted, says nothing of what was not, and its page needs nothing else."""

import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cervix_jax.auditing import findings, page
from cervix_jax.images import synthetic


def save(path, image):
    Image.fromarray(image).save(path, quality=95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn photographs, and one of each thing that an audit should find."""
    folder = tmp_path_factory.mktemp("audited <folder>")
    synthetic.write_folder(folder, seed=11, counts={"train": 60, "additional": 24, "test": 4})
    train, additional = folder / "train", folder / "additional"
    (train / "Type_1/empty.jpg").write_bytes(b"")
    original = min((train / "Type_2").iterdir())
    shutil.copy(original, train / "Type_3/conflict.jpg")
    with Image.open(original) as image:
        image.resize((180, 240)).save(additional / "Type_2/copy.jpg")

    def drawn(index):
        return synthetic.draw(12, "train", index).image.copy()

    lost = drawn(0)
    lost[200:] = 128
    save(train / "Type_2/lost.jpg", lost)
    blurred = Image.fromarray(drawn(1)).filter(ImageFilter.GaussianBlur(8))
    blurred.save(train / "Type_2/blurred.jpg")
    save(train / "Type_2/dark.jpg", drawn(2) // 12)
    noise = np.random.default_rng(0).integers(0, 12, (320, 240, 3)).astype(np.uint8)
    save(train / "Type_2/bright.jpg", 255 - drawn(3) // 20 - noise)
    green = drawn(4)
    green[..., [0, 2]] //= 8
    save(train / "Type_2/green <i>.jpg", green)
    save(train / "Type_2/landscape.jpg", np.ascontiguousarray(np.rot90(drawn(5))))
    return folder


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    return findings.audit(folder, tmp_path_factory.mktemp("cache") / "m.sqlite")


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
def test_what_was_planted_is_found(found, kind, names):
    planted = {finding.name for finding in found.of(kind) if not finding.name.startswith("additional/")}
    assert names <= planted
    assert len(planted) <= len(names) + (2 if kind in ("blurred", "dark", "bright", "green_filter") else 0)


def test_copies_are_one_group_and_their_types_conflict(found, folder):
    original = f"train/Type_2/{min((folder / 'train/Type_2').iterdir()).name}"
    group = {finding.name: finding.group for finding in found.of("near_duplicates")}
    assert group[original] == group["train/Type_3/conflict.jpg"] == group["additional/Type_2/copy.jpg"]
    conflicts = {finding.name for finding in found.of("label_conflict")}
    assert {original, "train/Type_3/conflict.jpg"} <= conflicts
    assert {f.name: f.detail for f in found.of("rejected")}["additional/Type_2/copy.jpg"] == "near_duplicate"


def test_counts_are_of_what_can_be_read(found):
    assert sum(found.counts["train"].values()) == 60 + 7
    assert found.counts["test"] == {"unlabelled": 4}


@pytest.mark.parametrize(
    ("rows", "level", "expected"), [(8, 128, 0.1), (40, 128, 0.5), (2, 128, 0), (8, 0, 0), (40, 0, 0.5)]
)
def test_bands_are_flat_and_black_ones_only_if_they_are_high(rows, level, expected):
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3)).astype(np.uint8)
    image[80 - rows :] = level
    assert findings.band_height(image) == expected


def test_files_are_complete_and_the_page_needs_nothing_else(found, folder, tmp_path):
    written = page.write(found, folder, tmp_path)
    assert {path.name for path in written} >= {"index.html", "findings.csv", "cleaning.csv", "near_duplicates.png"}
    with (tmp_path / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["image_name"]) for row in rows] == [(f.kind, f.name) for f in found.findings]
    with (tmp_path / "cleaning.csv").open(newline="") as file:
        scored = list(csv.DictReader(file))
    assert len(scored) == found.manifest.of("additional").sum()
    html = (tmp_path / "index.html").read_text()
    assert not re.search(r"(src|href)=.(?!data:)", html)
    assert "audited &lt;folder&gt;" in html
    assert "green &lt;i&gt;.jpg" in html
    assert "<i>" not in html
    with Image.open(tmp_path / "near_duplicates.png") as sheet:
        assert sheet.width == 6 * 128
