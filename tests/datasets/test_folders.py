"""Folders of photographs: what is found in each layout, and what is missing or not read."""

import shutil

import pytest

from cervix_jax.datasets import folders
from cervix_jax.datasets.folders import ManualDirError
from cervix_jax.labels import CLASS_NAMES


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


FLAT = [f"{name}/1.jpg" for name in CLASS_NAMES]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_both_layouts_are_found_with_what_lies_beside(prefix, tmp_path, capsys):
    names = [prefix + name for name in FLAT] + [f"{prefix}Type_1/case/2.png"]
    additional = [f"additional/{name}" for name in FLAT]
    make(tmp_path, *names, *additional, "test/5.jpg")
    labels = folders.scan(tmp_path, additional=True)
    assert set(labels) == {*names, *additional, "test/5.jpg"}
    assert {labels[f"{prefix}{name}/1.jpg"] for name in CLASS_NAMES} == {0, 1, 2}
    assert labels[f"{prefix}Type_1/case/2.png"] == 0
    assert labels["test/5.jpg"] == folders.UNLABELLED
    assert {name: folders.source_of(name) for name in labels} == {
        **dict.fromkeys(names, "initial"),
        **dict.fromkeys(additional, "additional"),
        "test/5.jpg": "test",
    }
    folders.log_found(tmp_path, labels)
    counts = f"{prefix}Type_1 2, {prefix}Type_2 1, {prefix}Type_3 1, additional/Type_1 1"
    assert f"found in {tmp_path}: {counts}" in capsys.readouterr().err


def test_train_is_read_where_there_are_both_and_nothing_else(tmp_path):
    make(tmp_path, *FLAT, *(f"train/{name}" for name in FLAT))
    labels = folders.scan(tmp_path, additional=False)
    assert set(labels) == {f"train/{name}" for name in FLAT}


def test_what_is_missing_is_named_without_a_word_of_kaggle(tmp_path):
    with pytest.raises(ManualDirError, match="there is no folder "):
        folders.scan(tmp_path / "nowhere", additional=False)
    make(tmp_path, *FLAT[:2])
    with pytest.raises(ManualDirError, match="Type_3 is missing; Type_1, Type_2 and Type_3 are expected in") as error:
        folders.scan(tmp_path, additional=False)
    assert "aggle" not in str(error.value) + error.value.advice
    make(tmp_path, *FLAT)
    with pytest.raises(ManualDirError, match="additional/Type_1 is missing; without additional photographs: --config"):
        folders.scan(tmp_path, additional=True)


def test_a_type_without_pictures_is_named(manual_dir, tmp_path):
    shutil.copytree(manual_dir, tmp_path / "raw")
    for path in (tmp_path / "raw/train/Type_3").iterdir():
        path.unlink()
    with pytest.raises(ManualDirError, match="Type_3 holds no pictures"):
        folders.scan(tmp_path / "raw", additional=False)


def test_an_audit_takes_the_additional_types_that_are_there(manual_dir, tmp_path, capsys):
    folder = shutil.copytree(manual_dir, tmp_path / "raw")
    shutil.copytree(folder / "train/Type_1", folder / "additional/Type_1", dirs_exist_ok=True)
    with pytest.raises(ManualDirError, match="additional/Type_2"):
        folders.scan(folder, additional=True)
    labels = folders.scan(folder, additional=True, complete=False)
    assert sum(name.startswith("additional/") for name in labels) == len(list((folder / "train/Type_1").iterdir()))
    folders.log_found(folder, {"test": folders.UNLABELLED})  # as `scan` gives a folder that cannot be listed
    assert "test 1" in capsys.readouterr().err


def test_class_folders_elsewhere_are_an_error(tmp_path):
    for name in CLASS_NAMES:
        (tmp_path / "raw/train" / name).mkdir(parents=True)
        (tmp_path / "raw/train" / name / "1.jpg").write_bytes(b"x")
    assert len(folders.scan(tmp_path / "raw", additional=False)) == 3
    (tmp_path / "raw/train/Type_2").rename(tmp_path / "elsewhere")
    (tmp_path / "raw/train/Type_2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManualDirError, match="Type_2 is a link that leaves"):
        folders.scan(tmp_path / "raw", additional=False)


def test_what_is_not_read_is_said(manual_dir, tmp_path, capsys):
    folder = shutil.copytree(manual_dir, tmp_path / "raw")
    for name in ("train/Type_1/a.HEIC", "train/Type_1/b.heic", "train/Type_3/c.dcm", "test/d"):
        (folder / name).write_bytes(b"x")
    (folder / "train/Type_4").mkdir()
    (folder / "boxes.txt").touch()  # beside the photographs
    folders.log_found(folder, folders.scan(folder, additional=False))
    messages = capsys.readouterr().err
    assert f"found in {folder}: train/Type_1 " in messages
    assert "not read: 2 files *.heic, such as train/Type_1/a.HEIC (convert them to JPEG)" in messages
    assert "not read: 1 file *.dcm, such as train/Type_3/c.dcm" in messages
    assert "not read: 1 file without a suffix, such as test/d" in messages
    assert "not read: the folder train/Type_4, which is none of Type_1, Type_2, Type_3" in messages
    assert "boxes.txt" not in messages
