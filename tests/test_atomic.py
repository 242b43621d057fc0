"""Files are replaced as a whole or not at all."""

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
