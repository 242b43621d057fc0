"""Boxes that stand out, each by its kind; sound ones are not reported."""

import numpy as np

from cervix_jax.auditing.box_findings import BOX_KINDS, box_findings
from cervix_jax.datasets.splits import INITIAL, TEST, Manifest

NONE = (np.nan,) * 4


def manifest(boxes, annotators=("A", "B")) -> Manifest:
    """Photographs 0.jpg, 1.jpg, ..., the last one of the test set, with a box for each annotator."""
    n = len(boxes)
    return Manifest(
        names=[f"{i}.jpg" for i in range(n)],
        source=[INITIAL] * (n - 1) + [TEST],
        labels=np.array([0] * (n - 1) + [-1]),
        folder_labels=np.zeros(n, int),
        histograms=np.zeros((n, 1), np.float32),
        sharpness=np.zeros(n, np.float32),
        groups=np.arange(n),
        annotators=annotators,
        boxes=np.array(boxes, np.float32).reshape(n, len(annotators), 4),
    )


def test_each_kind_is_found_and_nothing_else() -> None:
    sound = (0.2, 0.3, 0.6, 0.7)
    boxes = [
        (sound, (0.22, 0.3, 0.6, 0.7)),
        (NONE, NONE),
        ((0.5, 0.5, 0.55, 0.55), NONE),
        (NONE, (0.4, 0.5, 0.9, 1.0)),
        (sound, (0.55, 0.65, 0.9, 0.9)),
        (NONE, NONE),
    ]
    findings = list(box_findings(manifest(boxes)))
    assert {(kind, name) for kind, name, _ in findings} == {
        ("box_missing", "1.jpg"),
        ("box_tiny", "2.jpg"),
        ("box_at_border", "3.jpg"),
        ("box_disagreement", "4.jpg"),
    }
    assert {kind for kind, _, _ in findings} == set(BOX_KINDS)
    details = {kind: detail for kind, _, detail in findings}
    assert details["box_at_border"] == "bottom B"
    assert details["box_tiny"] == "0.25% A"
    assert details["box_disagreement"].endswith("A and B")


def test_without_boxes_there_is_nothing_to_find() -> None:
    assert not list(box_findings(manifest([(), ()], annotators=())))
