"""A localiser: trained like any run, restored, copied, and the same on photographs and their mirror images."""

import json

import numpy as np
import pytest
from PIL import Image

from cervix_jax import runs
from cervix_jax.images import synthetic
from cervix_jax.images.boxes import mirrored
from cervix_jax.training.localiser import RECORD, Localiser

PICTURES = [synthetic.draw(6, "train", i).image for i in range(3)]


@pytest.fixture(scope="module")
def localiser(localiser_run) -> Localiser:
    return Localiser.restore(localiser_run)


def test_its_run_reports_overlap_and_keeps_the_epoch_of_least_loss(localiser_run, localiser) -> None:
    rows = runs.read_metrics(localiser_run)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(0 < row["validation_mean_iou"] < 1 for row in rows)
    best = min(rows, key=lambda row: row["validation_loss"])
    assert localiser.record["metrics"]["mean_iou"] == best["validation_mean_iou"]


def test_boxes_lie_in_the_photograph_and_mirror_with_it(localiser) -> None:
    images = np.stack([localiser.transform(Image.fromarray(picture)) for picture in PICTURES])
    boxes, confidence = localiser.locate(images)
    assert boxes.shape == (3, 4)
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert ((confidence > 0) & (confidence < 1)).all()
    mirror, same = localiser.locate(images[:, :, ::-1])
    np.testing.assert_allclose(mirrored(mirror, horizontal=True), boxes, atol=1e-5)
    np.testing.assert_allclose(same, confidence, atol=1e-5)


def test_one_photograph_is_located_as_among_others(localiser) -> None:
    images = np.stack([localiser.transform(Image.fromarray(picture)) for picture in PICTURES])
    boxes, confidence = localiser.locate(images)
    box, sure = localiser.locate_one(Image.fromarray(PICTURES[1]))
    np.testing.assert_allclose(box, boxes[1], atol=1e-5)
    assert sure == pytest.approx(confidence[1], abs=1e-5)


def test_a_copy_is_the_same_localiser(localiser, tmp_path) -> None:
    localiser.save(tmp_path)
    copy = Localiser.load(tmp_path)
    assert copy == localiser
    assert copy.locate_one(Image.fromarray(PICTURES[0])) == localiser.locate_one(Image.fromarray(PICTURES[0]))
    assert Localiser.load(tmp_path / "elsewhere") is None


def test_weights_of_another_network_are_refused(localiser, tmp_path) -> None:
    localiser.save(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    record["config"]["model"]["backbone"]["cut"] = "conv2_block1_out"
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(runs.RunError, match="does not fit"):
        Localiser.load(tmp_path)


def test_a_classifier_is_no_localiser(run) -> None:
    with pytest.raises(runs.RunError, match="no localiser"):
        Localiser.restore(run[0])
