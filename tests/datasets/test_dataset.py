"""Prepared data sets: the manifest beside the examples, other splits of the same photographs, older versions."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.data_sources.array_record import ArrayRecordDataSource

from cervix_jax.datasets.builder import Cervix
from cervix_jax.datasets.cases import CaseError
from cervix_jax.datasets.dataset import MANIFEST_FILE, load_dataset
from cervix_jax.datasets.pipeline import DatasetError
from cervix_jax.datasets.splits import SplitError


@pytest.fixture
def config(tiny_config, tmp_path):
    """Of a data set of its own, which a test may change; no raw photographs."""
    load_dataset(tiny_config)
    shutil.copytree(tiny_config.dataset.data_dir, tmp_path / "prepared")
    tiny_config.dataset.data_dir, tiny_config.dataset.manual_dir = str(tmp_path / "prepared"), None
    return tiny_config


@pytest.fixture
def manifest_file(config):
    return load_dataset(config).builder.data_path / MANIFEST_FILE


@pytest.fixture
def reads(monkeypatch):
    """The number of examples read so far."""
    count, read = [0], ArrayRecordDataSource.__getitem__

    def counting(self, index):
        count[0] += 1
        return read(self, index)

    monkeypatch.setattr(ArrayRecordDataSource, "__getitem__", counting)
    return count


def assert_same(one, other):
    for name, value in vars(one.manifest).items():
        np.testing.assert_array_equal(getattr(other.manifest, name), value)
        assert type(getattr(other.manifest, name)) is type(value)
    assert one.assignment.split == other.assignment.split


def test_a_start_reads_the_manifest_and_no_example(config, manifest_file, reads):
    first = load_dataset(config)
    assert reads == [0]
    manifest_file.unlink()
    rebuilt = load_dataset(config)
    assert reads == [67]
    assert_same(first, rebuilt)
    assert_same(first, load_dataset(config))
    assert reads == [67]
    assert not list(manifest_file.parent.glob("*.partial"))


def change_identity(path):
    with np.load(path) as arrays:
        np.savez(path, **dict(arrays) | {"identity": np.array("another data set"), "labels": arrays["labels"] + 1})


def drop_a_column(path):
    with np.load(path) as arrays:
        np.savez(path, **{name: arrays[name] for name in arrays if name != "groups"})


def flip_a_byte(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [
        change_identity,
        drop_a_column,
        flip_a_byte,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_text("no archive"),
    ],
    ids=["another data set", "older columns", "flipped", "empty", "truncated", "text"],
)
def test_a_manifest_that_does_not_fit_is_made_again(config, manifest_file, damage):
    before, content = load_dataset(config), manifest_file.read_bytes()
    damage(manifest_file)
    assert manifest_file.read_bytes() != content
    assert_same(before, load_dataset(config))
    assert_same(before, load_dataset(config))
    with np.load(manifest_file) as arrays:
        assert sorted(arrays) == sorted(["identity", *vars(before.manifest)])


def test_a_folder_that_cannot_be_written_to_still_loads(config, manifest_file, monkeypatch):
    before = load_dataset(config)
    manifest_file.unlink()
    manifest_file.with_name(
        MANIFEST_FILE + ".partial"
    ).mkdir()  # where the file would be written; root may write anywhere
    assert_same(before, load_dataset(config))
    assert not manifest_file.exists()


def test_data_of_the_version_before_is_read_and_has_no_boxes(config, manual_dir, monkeypatch):
    before = load_dataset(config)
    generate, data_path, jpeg = Cervix._generate_examples, before.builder.data_path, before.examples("train").jpeg(0)

    def without_boxes(*arguments):
        for name, example in generate(*arguments):
            yield name, {key: value for key, value in example.items() if key != "boxes"}

    config.dataset.manual_dir = str(manual_dir)
    shutil.move(data_path, data_path.with_name("moved"))
    with monkeypatch.context() as then:
        then.setattr(Cervix, "_generate_examples", without_boxes)
        then.setattr(Cervix, "VERSION", tfds.core.Version(Cervix.WITHOUT_BOXES[0]))
        load_dataset(config)
    after = load_dataset(config)
    assert str(after.builder.version) == Cervix.WITHOUT_BOXES[0]
    assert after.assignment.split == before.assignment.split
    assert after.examples("train").jpeg(0) == jpeg
    assert np.isnan(after.boxes).all()
    config.task = "localise"
    with pytest.raises(DatasetError, match=r"no photograph of split 'train' has a box"):
        load_dataset(config).examples("train")


def test_other_splits_of_the_same_data_are_those_of_their_own_config(tiny_config) -> None:
    data = load_dataset(tiny_config)
    tiny_config.selection.fold, tiny_config.dataset.image_size = 1, (16, 12)
    again, fresh = data.with_splits(tiny_config), load_dataset(tiny_config)
    assert again.assignment.split == fresh.assignment.split != data.assignment.split
    one, other = again.examples("validation"), fresh.examples("validation")
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.image(0), other.image(0))


def test_photographs_listed_in_a_file_are_not_trained_on(tiny_config, tmp_path, capsys) -> None:
    data = load_dataset(tiny_config)
    name = data.examples("train").ids[0]
    listed = tmp_path / "findings.csv"
    listed.write_text(f"kind,image_name\nsuspicious_label,{name}\n")
    config = tiny_config.copy_and_resolve_references()
    config.selection.exclude = str(listed)
    assert set(data.examples("train").ids) - set(data.with_splits(config).examples("train").ids) == {name}
    # As a spreadsheet writes what a person has typed: a byte-order mark, the end of a name, a row that is too short.
    end = name.removeprefix("train/")
    listed.write_text(f"kind,image_name\nsuspicious_label,{end}\n,nobody.jpg\nblurred\n", encoding="utf-8-sig")
    assert set(data.examples("train").ids) - set(data.with_splits(config).examples("train").ids) == {name}
    assert "1 of 2 names are of no photograph" in capsys.readouterr().err
    for text, message in (("kind\nblurred\n", "image_name"), ("image_name\nnobody.jpg\n", "names none of the")):
        listed.write_text(text)
        with pytest.raises(DatasetError, match=message):
            data.with_splits(config)


def test_cases_that_are_fewer_than_folds_are_an_error(tiny_config) -> None:
    tiny_config.dataset.case_pattern = "/(?P<case>Type_[123])/"
    with pytest.raises(SplitError, match="are 3 groups of near-duplicates and cases, and 5 are needed"):
        load_dataset(tiny_config)


def test_a_split_that_does_not_exist_is_named(tiny_config):
    with pytest.raises(DatasetError, match="no split 'validate'; it has"):
        load_dataset(tiny_config).examples("validate")


def test_boxes_of_several_people_concern_only_runs_that_use_them(config) -> None:
    data = load_dataset(config)
    boxes = np.repeat(data.manifest.boxes, 2, axis=1)
    data = dataclasses.replace(data, manifest=dataclasses.replace(data.manifest, annotators=["A", "B"], boxes=boxes))
    assert len(data.examples("train")) == data.splits["train"]
    config.task = "localise"
    with pytest.raises(DatasetError, match="boxes were drawn by 'A', 'B'"):
        data.with_splits(config).examples("train")


def test_cases_of_a_pattern_stay_in_one_fold_and_rebuild_nothing(config, reads):
    plain = load_dataset(config)
    config.dataset.case_pattern = r"/(?P<case>\d)\d*\.jpg"  # by the first digit
    by_case = load_dataset(config)
    assert reads == [0]
    initial = by_case.manifest.of("initial")
    cases = np.array([name.rpartition("/")[2][0] for name in by_case.manifest.names])
    for case in set(cases[initial]):
        rows = initial & (cases == case)
        assert len(set(by_case.manifest.groups[rows])) == len(set(by_case.assignment.folds[rows])) == 1
    split = [plain.assignment.folds[initial & (cases == case)] for case in set(cases[initial])]
    assert any(len(set(folds)) > 1 for folds in split)
    config.dataset.case_pattern = "(?P<case>nobody)"
    with pytest.raises(CaseError, match="fits no name"):
        load_dataset(config)
