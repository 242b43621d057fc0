"""Files are replaced as a whole or not at all."""

import fcntl
import threading

import pytest

from cervix_jax.atomic import open_atomic, write_atomic


@pytest.mark.parametrize("content", ["ä\n", b"\0\xff"])
def test_the_content_is_replaced_and_nothing_else_is_left(tmp_path, content) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_atomic(path, "old")
    write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_content(tmp_path) -> None:
    path = tmp_path / "file.csv"
    write_atomic(path, "old")

    def write_half() -> None:
        with open_atomic(path, newline="") as file:
            file.write("half")
            file.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_wait_for_each_other(tmp_path) -> None:
    path, errors = tmp_path / "table.csv", []

    def write_another() -> None:
        try:
            write_atomic(path, "another")
        except OSError as error:
            errors.append(error)

    other = threading.Thread(target=write_another)
    with open_atomic(path) as file:
        file.write("half")
        with (tmp_path / "table.csv.partial").open() as partial, pytest.raises(BlockingIOError):
            fcntl.flock(partial, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.start()
        file.write(" and half")
    other.join()
    assert errors == []
    assert path.read_text() in ("another", "half and half")  # in the order in which they came
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_what_a_killed_writer_has_left_is_written_over(tmp_path) -> None:
    (tmp_path / "a.txt.partial").write_text("much longer than what is written now")
    write_atomic(tmp_path / "a.txt", "short")
    assert (tmp_path / "a.txt").read_text() == "short"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
