"""Figures as files: formats, titles that are no mathematics, the folder made."""

import numpy as np
import pytest
from PIL import Image

from cervix_jax.plots import figures


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_suffix_is_the_format_and_a_figure_is_written_as_a_whole(tmp_path, suffix) -> None:
    path = tmp_path / f"made/matrix.{suffix}"
    figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ["Type_1", "rest"], "a $strange$ run_1", path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if suffix == "png":
        with Image.open(path) as image:
            assert min(image.size) > 200
    else:
        assert path.read_bytes().startswith(b"%PDF")


def test_dollars_in_names_are_no_mathematics() -> None:
    assert figures.escape("$frac$.jpg") == r"\$frac\$.jpg"


def test_curves_bins_and_photographs_are_drawn(tmp_path) -> None:
    rows = [
        {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.5, "validation_loss": 1.1 - epoch / 10}
        | {"validation_accuracy": 0.4}
        for epoch in (1, 2, 3)
    ]
    figures.learning_curves(rows, "run", tmp_path / "curves.png")
    bins = [{"count": 4, "confidence": 0.6, "accuracy": 0.5}, {"count": 2, "confidence": 0.9, "accuracy": 1.0}]
    figures.reliability(bins, "run", tmp_path / "reliability.png")
    figures.risk_coverage([{"coverage": 0.5, "risk": 0.0}, {"coverage": 1.0, "risk": 0.3}], "run", tmp_path / "rc.png")
    images = [np.full((8, 6, 3), level, np.uint8) for level in (0, 100, 200)]
    probabilities, labels = np.eye(3), np.array([0, 1, 1])
    figures.predictions(images, probabilities, labels, ["a", "b", "c"], "run", tmp_path / "p.png", per_type=2)
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "reliability.png", "rc.png", "p.png"}
