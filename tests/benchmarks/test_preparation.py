"""Photographs to prepare, and the figures of one; `test_benchmark.py` has the program."""

import io

import pytest
from PIL import Image

from cervix_jax.benchmarks import preparation


def test_drawn_photographs_are_as_large_as_a_camera_s() -> None:
    raw = preparation.camera_jpeg(0, (1000, 750))
    assert Image.open(io.BytesIO(raw)).size == (750, 1000)
    assert 0.2 < len(raw) / (1000 * 750) < 0.4  # bytes per pixel: 3 to 4 MB of 12 megapixels are 0.25 to 0.33
    assert raw != preparation.camera_jpeg(1, (1000, 750))
    assert raw == preparation.camera_jpeg(0, (1000, 750))


def test_figures_of_a_photograph() -> None:
    metrics = preparation.time_single([preparation.camera_jpeg(0, (1500, 1000))], 5)
    assert 0 < metrics["fraction_of_limit"] < 1.5
    assert metrics["ratio_to_limit"] == pytest.approx(1 / metrics["fraction_of_limit"])
    medians = metrics["milliseconds_per_photograph_and_core"]["median"], metrics["whole_decode_milliseconds"]["median"]
    assert metrics["ratio_to_whole_decode"] == pytest.approx(medians[0] / medians[1])


def test_folders_without_photographs_are_refused(tmp_path) -> None:
    with pytest.raises(preparation.NoPhotographsError, match="there is no folder"):
        preparation.read_folder(tmp_path / "none")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    Image.new("RGB", (100, 100), "red").save(tmp_path / "lossless.png")  # which has nothing to compare with
    with pytest.raises(preparation.NoPhotographsError, match="no JPEG that can be read"):
        preparation.read_folder(tmp_path)
    (tmp_path / "good.jpg").write_bytes(preparation.camera_jpeg(0, (100, 100)))
    assert len(preparation.read_folder(tmp_path)) == 1
