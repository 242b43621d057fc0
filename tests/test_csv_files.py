"""Names come back as they were, whatever they are, in files that nothing misreads."""

import csv
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cervix_jax.csv_files import csv_writer, from_cell, printable, to_cell


@given(st.binary().map(os.fsdecode))
@example("=1+1.jpg")
@example("'=1+1.jpg")
@example("''.jpg")
@example("\\xe9 \\x5c \\\udce9.jpg")
def test_a_name_comes_back_and_is_no_formula(name) -> None:
    cell = to_cell(name)
    assert from_cell(cell) == name
    cell.encode()  # as UTF-8
    try:
        float(cell)
    except ValueError:
        assert cell[:1] not in tuple("=+-@\t\r")


@pytest.mark.parametrize("name", ["0.jpg", "Type_1/ö 0.jpg", "a\\b.jpg", "sub/=1.jpg", "-1", "-1.500", "+inf"])
def test_common_names_and_numbers_are_written_as_they_are(name) -> None:
    assert to_cell(name) == name


def test_rows_are_read_by_pythons_csv_as_utf8(tmp_path) -> None:
    names = ["=HYPERLINK(1).jpg", "caf\udce9.jpg", 'a, "b"\r\n.jpg', "@x.jpg"]
    with csv_writer(tmp_path / "t.csv") as writer:
        writer.writerow(["image_name", "group"])
        writer.writerows([name, -1] for name in names)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image_name", "group"]
    assert [row[0] for row in rows[1:]] == ["'=HYPERLINK(1).jpg", r"caf\xe9.jpg", 'a, "b"\r\n.jpg', "'@x.jpg"]
    assert [from_cell(row[0]) for row in rows[1:]] == names
    assert {row[1] for row in rows[1:]} == {"-1"}
    assert b"\r\n" not in (tmp_path / "t.csv").read_bytes().replace(b'"b""\r\n', b"")


def test_an_error_leaves_the_old_rows(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), csv_writer(path) as writer:
        writer.writerow([1 / 0])
    assert path.read_text() == "old"


def test_names_can_be_printed_anywhere() -> None:
    assert printable("caf\udce9 ü.jpg") == r"caf\xe9 ü.jpg"
