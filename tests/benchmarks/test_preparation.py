"""Photographs to measure, and their figures."""

import io

import pytest
from PIL import Image

from cervix_jax.benchmarks import preparation


def test_drawn_photographs_weigh_what_a_cameras_do() -> None:
    raw = preparation.camera_jpeg(0, (1000, 750))
    assert Image.open(io.BytesIO(raw)).size == (750, 1000)
    assert 0.2 < len(raw) / (1000 * 750) < 0.4  # bytes a pixel: 3 to 4 MB of 12 megapixels are 0.25 to 0.33
    assert raw != preparation.camera_jpeg(1, (1000, 750))
    assert raw == preparation.camera_jpeg(0, (1000, 750))


def test_figures_of_drawn_photographs(monkeypatch) -> None:
    monkeypatch.setattr(preparation, "_by_processes", lambda _: {})  # the program's test has it
    found = preparation.prepare(2, size=(1500, 1000))
    assert found["photographs"]["distinct"] == 4
    assert found["photographs"]["megapixels"] == 1.5
    assert 0 < found["fraction_of_limit"] < 1.5
    assert found["ratio_to_limit"] == pytest.approx(1 / found["fraction_of_limit"])


def test_folders_without_photographs_are_said(tmp_path) -> None:
    with pytest.raises(preparation.NoPhotographsError, match="there is no folder"):
        preparation.read_folder(tmp_path / "none")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(preparation.NoPhotographsError, match="no photograph that can be read"):
        preparation.read_folder(tmp_path)
    (tmp_path / "good.jpg").write_bytes(preparation.camera_jpeg(0, (100, 100)))
    assert len(preparation.read_folder(tmp_path)) == 1
