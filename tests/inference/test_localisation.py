"""A localiser's metrics in closed form, and its boxes as a file."""

import csv
import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference import localisation
from cervix_jax.training.localiser import Localiser


@pytest.fixture(scope="module")
def localiser(localiser_run) -> Localiser:
    return Localiser.restore(localiser_run)


def test_metrics_are_those_of_the_boxes(localiser) -> None:
    examples = load_dataset(localiser.config).examples("validation")
    metrics, boxes = localisation.evaluate_boxes(localiser, examples)
    left = np.maximum(boxes[:, 0], examples.boxes[:, 0])
    right = np.minimum(boxes[:, 2], examples.boxes[:, 2])
    top = np.maximum(boxes[:, 1], examples.boxes[:, 1])
    bottom = np.minimum(boxes[:, 3], examples.boxes[:, 3])
    common = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, examples.boxes)]
    overlap = common / (areas[0] + areas[1] - common)
    assert metrics["mean_iou"] == pytest.approx(overlap.mean())
    assert metrics["iou_above_0.5"] == pytest.approx((overlap > 0.5).mean())
    assert metrics["num_examples"] == len(examples) == 12
    assert set(metrics["by_type"]) == set(examples.class_names)
    low, high = metrics["intervals"]["mean_iou"]
    assert low <= metrics["mean_iou"] <= high
    is_first = examples.labels == 0
    rows = [array[~is_first] for array in (boxes, examples.boxes, examples.labels, examples.groups)]
    found = localisation.box_metrics(*rows, examples.class_names)["by_type"]  # JSON has no NaN
    assert found.pop(examples.class_names[0]) is None
    assert found == pytest.approx({name: metrics["by_type"][name] for name in found}, rel=1e-5)


def test_a_folder_is_located_with_a_row_for_each_photograph(localiser, manual_dir, tmp_path) -> None:
    (tmp_path / "photographs").mkdir()
    for path in sorted((manual_dir / "test").glob("*.jpg"))[:2]:
        (tmp_path / "photographs" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "photographs" / "empty.jpg").write_bytes(b"")
    result = localisation.locate_folder([localiser], tmp_path / "photographs", tmp_path / "boxes.csv")
    with (tmp_path / "boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_name"] for row in rows] == ["0.jpg", "1.jpg"]
    assert result["skipped"] == [{"image_name": "empty.jpg", "reason": "empty file"}]
    with Image.open(tmp_path / "photographs" / "1.jpg") as image:
        box, confidence = localiser.locate_one(image.convert("RGB"))
    expected = SimpleNamespace(**{name: float(x) for name, x in rows[1].items() if name != "image_name"})
    assert (expected.left, expected.top, expected.right, expected.bottom) == pytest.approx(box, abs=1e-4)
    assert expected.confidence == pytest.approx(confidence, abs=1e-4)


def test_of_several_localisers_each_side_is_the_median_and_the_confidence_the_mean(localiser, manual_dir, tmp_path):
    path = min((manual_dir / "test").glob("*.jpg"))
    several = [
        dataclasses.replace(localiser, variables=jax.tree.map(lambda x, f=factor: f * x, localiser.variables))
        for factor in (0.9, 1.0, 1.2)
    ]
    with Image.open(path) as image:
        found = [each.locate_one(image.convert("RGB")) for each in several]
    localisation.locate_folder(several, path, tmp_path / "boxes.csv")
    with (tmp_path / "boxes.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    box = [float(row[name]) for name in ("left", "top", "right", "bottom")]
    np.testing.assert_allclose(box, np.median([each.box for each in found], axis=0), atol=1e-4)
    assert float(row["confidence"]) == pytest.approx(np.mean([each.confidence for each in found]), abs=1e-4)
