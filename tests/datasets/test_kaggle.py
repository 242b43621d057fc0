"""Kaggle's corrections: applied to Kaggle's photographs, and to no others."""

import hashlib

import pytest

from cervix_jax.datasets import kaggle

NAMES = ["train/Type_2/80.jpg", "train/Type_3/968.jpg", "train/Type_3/1120.jpg", "train/Type_1/0.jpg"]


def test_label_corrections_apply_to_kaggle_s_list_of_names_alone(tmp_path, monkeypatch):
    assert kaggle.find_corrections(tmp_path, NAMES) == kaggle.Corrections()
    monkeypatch.setattr(kaggle, "TRAIN_NAMES", hashlib.sha256("\n".join(sorted(NAMES)).encode()).hexdigest())
    corrections = kaggle.find_corrections(tmp_path, [*NAMES, "additional/Type_1/7.jpg"])
    assert corrections.labels == {"train/Type_2/80.jpg": 2, "train/Type_3/968.jpg": 0, "train/Type_3/1120.jpg": 0}
    assert corrections.notes[0] == "train/Type_2/80.jpg: Type_3, as Kaggle corrected it"
    assert kaggle.find_corrections(tmp_path, [*NAMES, "train/Type_1/1.jpg"]).labels == {}
    flat = kaggle.find_corrections(tmp_path, [name.removeprefix("train/") for name in NAMES])
    assert flat.labels == {"Type_2/80.jpg": 2, "Type_3/968.jpg": 0, "Type_3/1120.jpg": 0}


def test_tables_that_are_there_are_applied(tmp_path):
    (tmp_path / "fixed_labels_v2.csv").write_text(
        "filename,old_label,new_label\n80.jpg, Type_1, Type_3\n5.jpg,Type_2,Type_1\n"
    )
    (tmp_path / "removed_files.csv").write_text("filename,old_label,new_label\n9.jpg,Type_1,removed\n")
    (tmp_path / "solution_stg1_release.csv").write_text("image_name,Type_1,Type_2,Type_3\n0.jpg,0,1,0\n7.jpg,1,0,0\n")
    names = ["train/Type_1/80.jpg", *(f"additional/Type_1/{i}.jpg" for i in (8, 9, 80)), "test/0.jpg"]
    corrections = kaggle.find_corrections(tmp_path, names)
    assert corrections.labels == {
        "additional/Type_1/80.jpg": 2,
        "test/0.jpg": 1,
    }  # 80.jpg of train/ is another
    assert corrections.removed == {"additional/Type_1/9.jpg": "listed in removed_files.csv"}
    assert corrections.notes == [
        "additional/Type_1/80.jpg: Type_3, by fixed_labels_v2.csv",
        "additional/Type_1/9.jpg: left out, by removed_files.csv",
        "1 labels of test/, by solution_stg1_release.csv",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fixed_labels_v2.csv", "name,label\n", "has no column filename, old_label, new_label"),
        ("fixed_labels.csv", "filename,old_label,new_label\n1.jpg,one,two\n", "line 2: old_label is 'one'"),
        ("solution_stg1_release.csv", "image_name,Type_1,Type_2,Type_3\n0.jpg,1,1,0\n", "line 2: one of Type_1"),
        ("removed_files.csv", b"filename,old_label,new_label\n\xff", "cannot be read as CSV in UTF-8: 'utf-8' codec"),
    ],
)
def test_tables_of_another_layout_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(kaggle.TableError, match=message):
        kaggle.find_corrections(tmp_path, ["test/0.jpg", "additional/Type_1/1.jpg"])
