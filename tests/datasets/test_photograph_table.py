"""Tables of photographs: laid out as folders, up to date, with their cases, and refused line by line."""

import shutil

import pytest

from cervix_jax.datasets.builder import scan
from cervix_jax.datasets.cases import read_cases
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.kaggle import find_corrections
from cervix_jax.datasets.photograph_table import PhotographTableError, lay_out


@pytest.fixture
def table(tmp_path):
    """Of three photographs and one of test."""
    for name in ("a.jpg", "b.jpg", "deep/a.jpg", "t.png"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(name.encode())
    rows = ["path,type,case,split", "a.jpg,Type_1,X,", "b.jpg,Type_2,Y,train", "deep/a.jpg,Type_3,X,", "t.png,,,test"]
    path = tmp_path / "raw/photographs.csv"
    path.write_text("\n".join(rows))
    return path


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.suffix != ".csv" and p.is_file()
    }


def test_photographs_are_laid_out_with_their_cases_and_follow_the_table(table, tmp_path) -> None:
    folder = lay_out(table, tmp_path / "prepared")
    assert contents(folder) == {
        "train/Type_1/a.jpg": b"a.jpg",
        "train/Type_2/b.jpg": b"b.jpg",
        "train/Type_3/deep_a.jpg": b"deep/a.jpg",
        "test/t.png": b"t.png",
    }
    assert sorted(scan(folder, additional=False).values()) == [-1, 0, 1, 2]
    cases = read_cases(folder, list(contents(folder)))
    assert cases == {"train/Type_1/a.jpg": "X", "train/Type_2/b.jpg": "Y", "train/Type_3/deep_a.jpg": "X"}
    assert (folder / "train/Type_2/b.jpg").samefile(table.parent / "b.jpg")
    # A photograph is replaced, another gets another type, a third is no longer listed.
    (table.parent / "new").write_bytes(b"another")
    (table.parent / "new").replace(table.parent / "b.jpg")
    table.write_text("path,type\na.jpg,Type_2\nb.jpg,Type_2\n")
    assert lay_out(table, tmp_path / "prepared") == folder
    assert contents(folder) == {"train/Type_2/a.jpg": b"a.jpg", "train/Type_2/b.jpg": b"another"}
    assert read_cases(folder, list(contents(folder))) == {}


def test_links_are_followed_and_paths_that_read_alike_are_told_apart(table, tmp_path) -> None:
    raw = table.parent
    (raw / "l.jpg").symlink_to("deep/a.jpg")
    (raw / "deep_a.jpg").write_bytes(b"another")
    table.write_text("path,type\nl.jpg,Type_1\ndeep/a.jpg,Type_2\ndeep_a.jpg,Type_2\n")
    for _ in range(2):
        laid_out = contents(folder := lay_out(table, tmp_path / "prepared"))
        assert laid_out["train/Type_1/l.jpg"] == b"deep/a.jpg"
        assert sorted(laid_out.values()) == [b"another", b"deep/a.jpg", b"deep/a.jpg"]
        assert not (folder / "train/Type_1/l.jpg").is_symlink()


def test_what_people_put_beside_the_photographs_stays(table, tmp_path) -> None:
    folder = lay_out(table, tmp_path / "prepared")
    for name in ("boxes.csv", "train/Type_1/a.json"):
        (folder / name).write_text("drawn by hand")
    assert lay_out(table, tmp_path / "prepared") == folder
    assert (folder / "boxes.csv").exists()
    assert (folder / "train/Type_1/a.json").exists()


def test_types_of_test_photographs_are_labels_of_theirs(table, tmp_path) -> None:
    table.write_text(f"{table.read_text().removesuffix('t.png,,,test')}t.png,Type_2,,test\n")
    folder = lay_out(table, tmp_path / "prepared")
    names = list(contents(folder))
    assert find_corrections(folder, names).labels == {"test/t.png": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("name,type\n", "no column path; it needs path, type"),
        ('path,type\n"a.jpg,' + "x" * 200_000, "cannot be read as CSV"),
        ("path,type,split\nt.png,Typ_2,test\n", "line 2: the type is 'Typ_2'"),
        ("path,type\na.jpg,Type_4\n", "line 2: the type is 'Type_4'"),
        ("path,type,split\na.jpg,Type_1,validation\n", "line 2: the split is 'validation'"),
        ("path,type\na.jpg,Type_1\ngone.jpg,Type_1\n", r"line 3: .*gone\.jpg is no file"),
        ("path,type\na.jpg,Type_1\na.jpg,Type_2\n", "line 3: a.jpg is there twice"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(table, tmp_path, rows, message) -> None:
    table.write_text(rows)
    with pytest.raises(PhotographTableError, match=message):
        lay_out(table, tmp_path / "prepared")
    with pytest.raises(PhotographTableError, match="cannot be read"):
        lay_out(tmp_path / "none.csv", tmp_path / "prepared")


def test_a_table_in_another_encoding_is_named(table, tmp_path) -> None:
    table.write_bytes("path,type,case\na.jpg,Type_1,Müller\n".encode("latin-1"))
    with pytest.raises(PhotographTableError, match="cannot be read as CSV in UTF-8"):
        lay_out(table, tmp_path / "prepared")


def test_a_data_set_of_a_table_has_the_photographs_of_the_folders(tiny_config, manual_dir, tmp_path) -> None:
    folder = shutil.copytree(manual_dir / "train", tmp_path / "flat")
    paths = sorted(folder.rglob("*.jpg"))
    rows = [f"{path.relative_to(folder).as_posix()},{path.parent.name},{i // 2}" for i, path in enumerate(paths)]
    (folder / "photographs.csv").write_text("\n".join(["path,type,case", *rows]))
    tiny_config.dataset.manual_dir = str(folder / "photographs.csv")
    tiny_config.dataset.data_dir = str(tmp_path / "prepared")
    data = load_dataset(tiny_config)
    assert len(data.manifest.names) == len(paths)
    assert len(set(data.manifest.groups.tolist())) <= len(paths) // 2
    assert load_dataset(tiny_config).fingerprint == data.fingerprint
