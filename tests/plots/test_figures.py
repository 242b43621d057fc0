"""Figures as files: formats, titles that are no mathematics, the folder made."""

import numpy as np
import pytest
from matplotlib.figure import Figure
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
    assert figures.fit("caf\udce9.jpg\n\nb", 4.0, 8) == "caf\\xe9.jpg\n\nb"


def test_long_texts_are_broken_where_the_figure_ends(tmp_path, monkeypatch) -> None:
    """Whatever the title, nothing of it lies outside of the figure."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    title = "a run of a long name on " + "photographs-in-a-folder/" * 9
    figures.confusion_matrix(np.eye(3, dtype=int), ["Type_1", "Type_2", "rest"], title, tmp_path / "m.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert "".join(figure.get_suptitle().split()) == "".join(title.split())


def test_the_epoch_of_the_weights_that_are_used_is_marked(tmp_path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, *_: drawn.append(figure))
    rows = [
        {"epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5, "validation_accuracy": 0.4}
        | {"validation_loss": epoch, "ema_validation_loss": 4 - epoch, "ema_validation_accuracy": epoch / 10}
        for epoch in (1, 2, 3)
    ]
    rows.insert(1, {"epoch": 2, "train_loss": None, "validation_loss": None})  # of a damaged line
    for averaged, epoch in ((False, 1), (True, 3)):
        figures.learning_curves(rows, epoch, "run", tmp_path / "c.png", averaged=averaged)
        loss = drawn[-1].axes[0]
        *_, marked = loss.lines
        assert marked.get_label() == f"used: epoch {epoch}"
        assert (marked.get_xdata()[0], marked.get_ydata()[0]) == (epoch, 1)
        assert "validation, moving average" in [line.get_label() for line in loss.lines]


def test_curves_bins_and_photographs_are_drawn(tmp_path) -> None:
    rows = [
        {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.5, "validation_loss": 1.1 - epoch / 10}
        | {"validation_accuracy": 0.4}
        for epoch in (1, 2, 3)
    ]
    figures.learning_curves(rows, 2, "run", tmp_path / "curves.png")
    bins = [{"count": 4, "confidence": 0.6, "accuracy": 0.5}, {"count": 2, "confidence": 0.9, "accuracy": 1.0}]
    figures.reliability({"before": bins, "after": bins}, "run", tmp_path / "reliability.png")
    curve = [{"coverage": 0.5, "risk": 0.0}, {"coverage": 1.0, "risk": 0.3}]
    figures.risk_coverage({"both": curve, "a": curve, "b": curve}, "run", tmp_path / "rc.png")
    images = [np.full((8, 6, 3), level, np.uint8) for level in (0, 100, 200)]
    probabilities, labels = np.eye(3), np.array([0, 1, 1])
    figures.predictions(images, probabilities, labels, ["a", "b", "c"], "run", tmp_path / "p.png", per_type=2)
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "reliability.png", "rc.png", "p.png"}
