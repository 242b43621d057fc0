"""Folders of photographs, read ahead."""

import shutil

import pytest

from cervix_jax.inference.image_folder import NoPhotographsError, photographs_in, read_all
from cervix_jax.inference.photograph import Photograph
from tests.inference.stub_predictor import StubPredictor


def test_every_photograph_is_read_in_order_or_has_a_reason(manual_dir, tmp_path) -> None:
    shutil.copytree(manual_dir / "test", tmp_path / "all/test")
    (tmp_path / "all/empty.jpg").touch()
    folder, paths = photographs_in(tmp_path / "all")
    assert folder == tmp_path / "all"
    assert photographs_in(paths[0]) == (paths[0].parent, [paths[0]])
    read = dict(read_all(StubPredictor(lambda image: image), tmp_path / "all", paths, with_features=True))
    assert list(read) == [path.relative_to(tmp_path / "all").as_posix() for path in paths]
    assert read.pop("empty.jpg") == "empty file"
    assert len(read) == 7
    assert all(isinstance(photograph, Photograph) and photograph.features for photograph in read.values())


def test_a_folder_without_photographs_is_refused(tmp_path) -> None:
    with pytest.raises(NoPhotographsError, match="holds no pictures"):
        photographs_in(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/IMG_1.HEIC").touch()
    with pytest.raises(
        NoPhotographsError, match=r"holds no pictures; not read: 1 file \*.heic, such as more/IMG_1.HEIC"
    ):
        photographs_in(tmp_path)
    with pytest.raises(NoPhotographsError, match="there is no folder"):
        photographs_in(tmp_path / "missing")


def test_pictures_that_are_not_read_are_said(tmp_path, capsys) -> None:
    for name in ("a.jpg", "scan.jfif", "1.dcm", "2.DCM", "IMG_1.HEIC", "notes.txt", ".hidden.dcm"):
        (tmp_path / name).touch()
    _, paths = photographs_in(tmp_path)
    assert [path.name for path in paths] == ["a.jpg", "scan.jfif"]
    messages = capsys.readouterr().err
    assert "not read: 2 files *.dcm, such as 1.dcm (convert them to JPEG)" in messages
    assert "not read: 1 file *.heic, such as IMG_1.HEIC (convert them to JPEG)" in messages
    assert "notes" not in messages
