"""The sheet shows the worst boxes first."""

import numpy as np
from PIL import Image

from cervix_jax.plots import box_sheet


def test_the_worst_are_drawn(tmp_path, monkeypatch) -> None:
    titles = []
    monkeypatch.setattr(box_sheet, "fit", lambda text, *_: titles.append(text) or text)
    drawn = np.tile([0.2, 0.2, 0.8, 0.8], (3, 1))
    boxes = np.column_stack([drawn - [[0, 0, 0, 0], [0, 0, 0.3, 0], [0, 0, 0.1, 0]], [0.9, 0.5, 0.8]])
    images = [np.zeros((40, 30, 3), np.uint8)] * 3
    box_sheet.worst_boxes(images, boxes, drawn, ["a", "b", "c"], "run", tmp_path / "sheet.png")
    assert [title.split("\n")[0] for title in titles] == ["b", "c", "a"]
    assert titles[0].endswith("IoU 0.50, confidence 0.50")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 500
