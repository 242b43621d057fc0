"""What was written by others is not lost, and what this software wrote is written again."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cervix_jax import outputs
from cervix_jax.outputs import OutputError, check_outputs


def test_files_of_another_kind_are_replaced_only_if_that_is_asked_for(tmp_path) -> None:
    ours, theirs, new = (tmp_path / name for name in ("ours", "theirs", "new"))
    ours.touch()
    theirs.touch()
    check_outputs([ours, new], lambda path: path == ours, overwrite=False)
    with pytest.raises(OutputError, match="theirs is something else"):
        check_outputs([ours, theirs], lambda path: path == ours, overwrite=False)
    check_outputs([ours, theirs], lambda path: path == ours, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        check_outputs([tmp_path], lambda path: True, overwrite=True)


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_figures_are_known_by_their_content(tmp_path, suffix) -> None:
    Figure(figsize=(1, 1)).savefig(tmp_path / f"a.{suffix}")
    Image.new("RGB", (4, 4)).save(tmp_path / f"b.{suffix}")
    assert outputs.is_figure(tmp_path / f"a.{suffix}")
    assert not outputs.is_figure(tmp_path / f"b.{suffix}")


@pytest.mark.parametrize(("content", "row"), [(b"a,b\n1,2\n", ["a", "b"]), (b"", []), (b"\xff\xfe", [])])
def test_the_first_row_of_anything(tmp_path, content, row) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert outputs.first_row(tmp_path / "t.csv") == row
