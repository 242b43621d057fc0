"""The TFDS builder: what is in which split, and what it says when photographs are missing or damaged."""

import shutil
from collections import Counter

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.data import builder, pipeline, synthetic
from cervix_jax.data.photographs import CLASS_NAMES, read_photograph


@given(
    counts=st.lists(st.integers(5, 60), min_size=3, max_size=3), num_folds=st.integers(2, 5), prefix=st.text(max_size=3)
)
def test_folds_are_stratified_repeatable_and_of_one_size(counts, num_folds, prefix):
    labels = {f"{prefix}{label}/{i}": label for label, count in enumerate(counts) for i in range(count)}
    folds = builder.stratified_folds(labels, num_folds)
    assert folds == builder.stratified_folds(dict(reversed(labels.items())), num_folds)
    assert set(folds) == set(labels)
    sizes = Counter(folds.values())
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for label in range(3):
        within = Counter(fold for name, fold in folds.items() if labels[name] == label)
        assert max(within.values()) - min(within[fold] for fold in range(num_folds)) <= 1


def test_kaggle_s_counts_give_the_report_s_296_validation_images():
    labels = {f"{label}/{i}": label for label, n in enumerate((250, 781, 450)) for i in range(n)}
    folds = builder.stratified_folds(labels, builder.NUM_FOLDS)
    assert sum(fold == builder.NUM_FOLDS - 1 for fold in folds.values()) == 296


@pytest.fixture(scope="module")
def initial(manual_dir, data_dir):
    made = tfds.builder("cervix/initial", data_dir=data_dir, file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return made


def test_every_photograph_is_in_exactly_one_split(initial, manual_dir):
    examples = {split: list(initial.as_data_source(split)) for split in initial.info.splits}
    ids = [row["id"].decode() for rows in examples.values() for row in rows]
    assert sorted(ids) == sorted(builder.scan(manual_dir))
    assert {split: len(rows) for split, rows in examples.items()} == {"train": 48, "validation": 12, "test": 7}
    assert {row["fold"] for row in examples["validation"]} == {builder.NUM_FOLDS - 1}
    assert {row["fold"] for row in examples["train"]} == set(range(builder.NUM_FOLDS - 1))
    assert {row["label"] for row in examples["test"]} == {builder.UNLABELLED}


def test_examples_hold_the_pixels_label_and_size_of_their_file(initial, manual_dir):
    for row in list(initial.as_data_source("train"))[:5]:
        name = row["id"].decode()
        pixels = np.asarray(read_photograph(manual_dir / name))
        np.testing.assert_array_equal(row["image"], pixels)
        assert CLASS_NAMES[row["label"]] == name.split("/")[1]
        assert tuple(row["original_size"]) == pixels.shape[:2]


def test_unreadable_files_are_left_out_and_named(manual_dir, tmp_path):
    folder = tmp_path / "raw"
    shutil.copytree(manual_dir, folder)
    (folder / "train/Type_1/empty.jpg").write_bytes(b"")
    (folder / "train/Type_2/text.jpg").write_text("no picture")
    made = tfds.builder("cervix/initial", data_dir=tmp_path / "prepared", file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    again = tfds.builder("cervix/initial", data_dir=tmp_path / "prepared", file_format="array_record")
    assert dict(again.info.metadata["dropped"]) == {
        "train/Type_1/empty.jpg": "empty file",
        "train/Type_2/text.jpg": "not a picture",
    }
    assert again.info.splits["train"].num_examples + again.info.splits["validation"].num_examples == 60


@pytest.mark.parametrize("given_dir", [None, "nowhere"])
def test_missing_photographs_say_what_to_download_and_where_to_put_it(given_dir, tiny_config, tmp_path):
    tiny_config.dataset.manual_dir = given_dir
    tiny_config.dataset.data_dir = str(tmp_path)
    with pytest.raises(builder.ManualDirError) as error:
        pipeline.prepared(tiny_config.dataset)
    for part in ("kaggle competitions download", "train.7z", "7z x", "--config.dataset.manual_dir"):
        assert part in str(error.value)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_a_type_without_pictures_is_named(manual_dir, tmp_path):
    shutil.copytree(manual_dir, tmp_path / "raw")
    for path in (tmp_path / "raw/train/Type_3").iterdir():
        path.unlink()
    with pytest.raises(builder.ManualDirError, match="Type_3 holds no pictures"):
        builder.scan(tmp_path / "raw")


def test_other_photographs_than_those_prepared_are_refused(initial, tiny_config, manual_dir, tmp_path):
    shutil.copytree(manual_dir, tmp_path / "raw")
    tiny_config.dataset.manual_dir = str(tmp_path / "raw")
    pipeline.prepared(tiny_config.dataset)  # a copy elsewhere is the same data
    (tmp_path / "raw/train/Type_1/more.jpg").write_bytes(next((manual_dir / "train/Type_1").iterdir()).read_bytes())
    with pytest.raises(pipeline.DatasetError, match="other photographs"):
        pipeline.prepared(tiny_config.dataset)


def test_unknown_data_set_is_named(tiny_config):
    tiny_config.dataset.name = "cervix/nothing"
    with pytest.raises(pipeline.DatasetError, match="cervix/nothing"):
        pipeline.prepared(tiny_config.dataset)


def test_synthetic_is_drawn_once_and_complete(monkeypatch, tmp_path):
    counts = {"train": 20, "additional": 6, "test": 4}
    draw = synthetic.photographs
    monkeypatch.setattr(synthetic, "photographs", lambda: draw(counts=counts))
    made = tfds.builder("cervix/synthetic", data_dir=tmp_path, file_format="array_record")
    made.download_and_prepare()
    found = {name: split.num_examples for name, split in made.info.splits.items()}
    assert found == {"train": 16, "validation": 4, "additional": 6, "test": 4}
    labels = {row["id"].decode(): row["label"] for split in found for row in made.as_data_source(split)}
    assert labels == {photograph.name: photograph.label for photograph in draw(counts=counts)}
