"""The TFDS builder: what is in which split, and what it says when photographs are missing or damaged."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import file_utils

from cervix_jax.datasets import builder, dataset, feature_cache, folders
from cervix_jax.datasets.builder import fingerprint_of, scan
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.pipeline import DatasetError
from cervix_jax.images import synthetic
from cervix_jax.images.decode import read_photograph
from cervix_jax.labels import CLASS_NAMES


@pytest.fixture(scope="module")
def initial(manual_dir, data_dir):
    made = tfds.builder("cervix/initial", data_dir=data_dir, file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return made


def test_every_photograph_is_in_exactly_one_split(initial, manual_dir):
    examples = {split: list(initial.as_data_source(split)) for split in initial.info.splits}
    ids = [row["id"].decode() for rows in examples.values() for row in rows]
    assert sorted(ids) == sorted(folders.scan(manual_dir, additional=False))
    assert {split: len(rows) for split, rows in examples.items()} == {"train": 48, "validation": 12, "test": 7}
    assert {row["label"] for row in examples["test"]} == {folders.UNLABELLED}


def test_examples_hold_the_pixels_and_label_of_their_file(initial, manual_dir):
    for row in list(initial.as_data_source("train"))[:5]:
        name = row["id"].decode()
        pixels = np.asarray(read_photograph(manual_dir / name))
        np.testing.assert_array_equal(row["image"], pixels)
        assert CLASS_NAMES[row["label"]] == name.split("/")[1]


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


def test_a_type_of_which_nothing_can_be_read_stops_the_build(tiny_config, manual_dir, tmp_path):
    folder = shutil.copytree(manual_dir, tmp_path / "raw")
    for path in (folder / "train/Type_2").iterdir():
        path.write_bytes(b"")
    tiny_config.dataset.manual_dir, tiny_config.dataset.data_dir = str(folder), str(tmp_path / "prepared")
    with pytest.raises(folders.ManualDirError, match="no photograph of train/Type_2 can be read: empty file"):
        load_dataset(tiny_config)


def test_missing_photographs_say_what_to_download_and_where_to_put_it(tiny_config, tmp_path):
    tiny_config.dataset.manual_dir = None
    tiny_config.dataset.data_dir = str(tmp_path)
    with pytest.raises(folders.ManualDirError) as error:
        load_dataset(tiny_config)
    for part in ("kaggle competitions download", "train.7z", "7z x", "--config.dataset.manual_dir"):
        assert part in error.value.advice
    assert len(str(error.value).splitlines()) == 1  # what is wrong, after the advice
    assert not list(tmp_path.rglob("*.array_record*"))


def test_types_may_lie_in_the_folder_itself(initial, tiny_config, manual_dir, tmp_path):
    shutil.copytree(manual_dir / "train", tmp_path / "raw")
    shutil.copytree(manual_dir / "test", tmp_path / "raw/test")
    tiny_config.dataset.manual_dir, tiny_config.dataset.data_dir = str(tmp_path / "raw"), str(tmp_path / "prepared")
    data = load_dataset(tiny_config)
    assert data.splits == {split: info.num_examples for split, info in initial.info.splits.items()}
    shares = zip(data.manifest.names, data.manifest.folder_labels, strict=True)
    for name, label in shares:
        assert name.split("/")[0] == ("test" if label < 0 else CLASS_NAMES[label])


def test_other_photographs_than_those_prepared_are_refused(initial, tiny_config, manual_dir, tmp_path):
    shutil.copytree(manual_dir, tmp_path / "raw")
    tiny_config.dataset.manual_dir = str(tmp_path / "raw")
    load_dataset(tiny_config)  # a copy elsewhere is the same data
    first, second = sorted((tmp_path / "raw/train/Type_1").iterdir())[:2]
    contents = first.read_bytes(), second.read_bytes()
    size = max(map(len, contents))
    first.write_bytes(contents[1].ljust(size, b"\0"))  # what follows a JPEG is not read
    second.write_bytes(contents[0].ljust(size, b"\0"))
    with pytest.raises(DatasetError, match="other photographs"):  # of the same names and sizes
        load_dataset(tiny_config)
    first.write_bytes(contents[0])
    second.write_bytes(contents[1])
    load_dataset(tiny_config)
    (tmp_path / "raw/train/Type_1/more.jpg").write_bytes(next((manual_dir / "train/Type_1").iterdir()).read_bytes())
    with pytest.raises(DatasetError, match="other photographs"):
        load_dataset(tiny_config)
    (tmp_path / "raw/train/Type_1/more.jpg").unlink()
    (tmp_path / "raw/fixed_labels_v2.csv").write_text("filename,old_label,new_label\n")
    with pytest.raises(DatasetError, match="other photographs"):
        load_dataset(tiny_config)


@pytest.mark.parametrize("name", ["cervix/nothing", "cervix/initial:9.9.9", "mnist"])
def test_unknown_data_set_is_named(tiny_config, name):
    tiny_config.dataset.name = name
    with pytest.raises(DatasetError, match=name):
        load_dataset(tiny_config)


def test_tables_may_be_links_out_of_the_folder(tiny_config, manual_dir, tmp_path):
    folder = shutil.copytree(manual_dir / "train", tmp_path / "folder")
    (tmp_path / "cases.csv").write_text("image_name,case\n")
    (folder / "cases.csv").symlink_to("../cases.csv")
    names = scan(folder, additional=False)
    before = fingerprint_of(folder, names, None)
    (tmp_path / "cases.csv").write_text("image_name,case\nx.jpg,A\n")
    assert fingerprint_of(folder, names, None) != before


def test_synthetic_is_drawn_once_and_complete(monkeypatch, tmp_path):
    counts = {"train": 20, "additional": 6, "test": 4}
    draw = synthetic.photographs
    monkeypatch.setattr(synthetic, "photographs", lambda: draw(counts=counts))
    made = tfds.builder("cervix/synthetic", data_dir=tmp_path, file_format="array_record")
    made.download_and_prepare()
    rows = [row for split in made.info.splits for row in made.as_data_source(split)]
    assert {row["id"].decode(): row["label"] for row in rows} == {p.name: p.label for p in draw(counts=counts)}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder with additional photographs, a third of which are blurred or show no cervix."""
    folder = tmp_path_factory.mktemp("raw")
    synthetic.write_folder(folder, seed=5, counts={"train": 60, "additional": 40, "test": 5})
    shutil.copy(min((folder / "train/Type_2").iterdir()), folder / "additional/Type_2/copy.jpg")
    (folder / "additional/Type_1/empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def cleaned(raw, tmp_path_factory):
    made = tfds.builder("cervix/cleaned", data_dir=tmp_path_factory.mktemp("data"), file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return made


def test_cleaned_holds_every_photograph_once_with_all_that_splits_need(cleaned, raw):
    rows = {split: list(cleaned.as_data_source(split)) for split in cleaned.info.splits}
    ids = [row["id"].decode() for part in rows.values() for row in part]
    assert sorted([*ids, "additional/Type_1/empty.jpg"]) == sorted(folders.scan(raw, additional=True))
    assert {row["source"] for row in rows["validation"]} == {b"initial"}
    assert {row["source"] for row in rows["train"]} == {b"initial", b"additional"}
    assert {row["source"] for row in rows["rejected"]} == {b"additional"}
    assert "additional/Type_2/copy.jpg" in {row["id"].decode() for row in rows["rejected"]}
    for part in rows.values():
        for row in part:
            assert row["histograms"].sum() == pytest.approx(30, abs=1e-3)
            assert row["sharpness"] > 0


def config_of(prepared, config):
    """The config of a data set that is on disk, whose raw photographs are not at hand."""
    config.dataset.update(name="cervix/cleaned", manual_dir=None, data_dir=str(prepared.data_path.parents[2]))
    return config


def test_the_stored_splits_are_the_default_ones(cleaned, tiny_config):
    data = load_dataset(config_of(cleaned, tiny_config))
    for split in cleaned.info.splits:
        stored = {row["id"].decode() for row in cleaned.as_data_source(split)}
        assert set(data.examples(split).ids) == stored
        assert len(data.examples(split)) == len(stored)
    folds, source, split = data.assignment.folds, np.array(data.manifest.source), np.array(data.assignment.split)
    assert set(folds[split == "validation"]) == {4}
    np.testing.assert_array_equal(folds >= 0, source == "initial")
    assert np.isfinite(data.assignment.log_density).all()
    assert all((reason != "") == (s == "rejected") for reason, s in zip(data.assignment.reasons, split, strict=True))
    assert data.assignment.reasons[data.manifest.names.index("additional/Type_2/copy.jpg")] == "near_duplicate"


def test_other_splits_rebuild_nothing(cleaned, tiny_config, monkeypatch):
    monkeypatch.setattr(feature_cache, "extract", lambda raw: pytest.fail("extracted again"))
    config_of(cleaned, tiny_config).selection.update(fold=0, additional="none")
    data = load_dataset(tiny_config)
    assert not any(name.startswith("additional") for name in data.examples("train").ids)
    validation = set(data.examples("validation").ids)
    tiny_config.selection.fold = 1
    assert not validation & set(load_dataset(tiny_config).examples("validation").ids)


def test_additional_photographs_that_are_missing_are_asked_for(manual_dir, tiny_config, tmp_path):
    shutil.copytree(manual_dir, tmp_path / "raw", ignore=lambda *_: ["additional"])
    tiny_config.dataset.update(name="cervix/cleaned", manual_dir=str(tmp_path / "raw"), data_dir=str(tmp_path / "data"))
    with pytest.raises(folders.ManualDirError, match="additional/Type_1 is missing"):
        load_dataset(tiny_config)


def test_a_build_that_was_killed_does_not_pass_for_complete_and_resumes(tmp_path, monkeypatch):
    """What was extracted is kept until the data set is complete; from then on it alone holds the JPEGs."""
    raw, root = tmp_path / "raw", tmp_path / "prepared"
    synthetic.write_folder(raw, seed=5, counts={"train": 40, "additional": 15, "test": 2})  # few: by this process
    calls, extract = [], feature_cache.extract

    def dying(content):
        calls.append(content)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return extract(content)

    monkeypatch.setattr(feature_cache, "extract", dying)
    download = tfds.download.DownloadConfig(manual_dir=raw)
    made = tfds.builder("cervix/cleaned", data_dir=root, file_format="array_record")
    with pytest.raises(KeyboardInterrupt):
        made.download_and_prepare(download_config=download)
    assert not made.data_path.exists()
    cache = builder.feature_cache_path(Path(made.data_path))
    jpegs = sum(len(content) for content in calls[:29])
    assert cache.stat().st_size > jpegs
    made = tfds.builder("cervix/cleaned", data_dir=root, file_format="array_record")
    made.download_and_prepare(download_config=download)
    distinct = {path.read_bytes() for path in raw.rglob("*.jpg")}
    assert len(calls) == len(distinct) + 1  # the one it died of is the only one extracted twice
    assert made.data_path.exists()
    assert cache.stat().st_size < jpegs / 10


def test_a_table_of_cases_groups_the_photographs_and_makes_another_data_set(tiny_config, manual_dir, tmp_path):
    folder = shutil.copytree(manual_dir, tmp_path / "raw")
    photographs = sorted((folder / "train").rglob("*.jpg"))[::2]
    rows = [f"{path.relative_to(folder).as_posix()},{i // 3}" for i, path in enumerate(photographs)]
    (folder / "cases.csv").write_text("\n".join(["image_name,case", *rows]))
    names = list(folders.scan(folder, additional=False))
    assert builder.fingerprint_of(folder, names, None) != builder.fingerprint_of(manual_dir, names, None)
    tiny_config.dataset.manual_dir, tiny_config.dataset.data_dir = str(folder), str(tmp_path / "prepared")
    data = load_dataset(tiny_config)
    place = {name: i for i, name in enumerate(data.manifest.names)}
    for start in range(0, len(rows), 3):
        members = [place[row.rpartition(",")[0]] for row in rows[start : start + 3]]
        assert len({int(data.manifest.groups[i]) for i in members}) == 1
        assert len({int(data.assignment.folds[i]) for i in members}) == 1
    (folder / "cases.csv").write_text("\n".join(["image_name,case", *rows[1:]]))
    with pytest.raises(DatasetError, match="prepared from other photographs"):
        load_dataset(tiny_config)


def test_nothing_is_left_beside_the_data_set(tiny_config, tmp_path, monkeypatch):
    """Neither what a build that was killed had begun to write, nor temporary folders of TFDS."""
    draw = synthetic.photographs
    monkeypatch.setattr(synthetic, "photographs", lambda: draw(counts={"train": 20, "additional": 0, "test": 2}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    tiny_config.dataset.update(name="cervix/synthetic", manual_dir=None, data_dir=str(tmp_path / "data"))
    version = str(builder.Cervix.VERSION)
    begun = file_utils.incomplete_dir(tmp_path / "data/cervix/synthetic" / version)
    (Path(begun.__enter__()) / "half").touch()  # and never left, as if it was killed
    load_dataset(tiny_config)
    assert [path.name for path in (tmp_path / "data/cervix/synthetic").iterdir()] == [version]
    assert not list((tmp_path / "temporary").iterdir())


def test_a_data_set_that_another_process_has_built_while_this_one_waited_is_read(tiny_config, tmp_path, monkeypatch):
    draw = synthetic.photographs
    monkeypatch.setattr(synthetic, "photographs", lambda: draw(counts={"train": 20, "additional": 0, "test": 2}))
    tiny_config.dataset.update(name="cervix/synthetic", manual_dir=None, data_dir=str(tmp_path))
    hold = dataset.exclusive

    @contextlib.contextmanager
    def waited(*arguments, **options):
        with hold(*arguments, **options):
            made = tfds.builder("cervix/synthetic", data_dir=tmp_path, file_format="array_record")
            made.download_and_prepare()
            monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda *_, **__: pytest.fail("built"))
            yield

    monkeypatch.setattr(dataset, "exclusive", waited)
    assert sum(load_dataset(tiny_config).splits.values()) == 22
