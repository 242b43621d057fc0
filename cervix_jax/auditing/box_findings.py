"""Findings about boxes around the cervix that people drew: missing, tiny, cut off by the border, or disagreeing."""

from collections.abc import Iterator, Mapping

import numpy as np

from cervix_jax.datasets.splits import TEST, Manifest
from cervix_jax.images.boxes import area, iou

BOX_KINDS: Mapping[str, str] = {
    "box_missing": "Labelled photographs without a box, where others have one.",
    "box_tiny": "Boxes of less than a hundredth of the photograph.",
    "box_at_border": "Boxes that reach the border of the photograph: part of the cervix may be cut off.",
    "box_disagreement": "Boxes of two people that overlap by less than a third (IoU).",
}

TINY = 0.01  # of the photograph's area
BORDER = 0.002  # distance from the border, as a fraction of the side
DISAGREEMENT = 1 / 3  # IoU


def box_findings(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Kind, name of the photograph and detail of each finding; none where nobody has drawn boxes."""
    if not manifest.annotators:
        return
    boxes, names = manifest.boxes.astype(float), manifest.names
    drawn = ~np.isnan(boxes[:, :, 0])
    for i in np.flatnonzero(~drawn.any(axis=1) & (manifest.labels >= 0) & ~manifest.of(TEST)).tolist():
        yield ("box_missing", names[i], "")
    for i, a in np.argwhere(drawn & (area(boxes) < TINY)).tolist():
        yield ("box_tiny", names[i], f"{area(boxes[i, a]):.2%} {manifest.annotators[a]}".strip())
    at_border = (boxes[:, :, :2].min(axis=2) <= BORDER) | (boxes[:, :, 2:].max(axis=2) >= 1 - BORDER)
    for i, a in np.argwhere(drawn & at_border).tolist():
        sides = ("left", "top", "right", "bottom")
        distances = np.concatenate([boxes[i, a, :2], 1 - boxes[i, a, 2:]])
        touched = [side for side, distance in zip(sides, distances, strict=True) if distance <= BORDER]
        yield ("box_at_border", names[i], f"{', '.join(touched)} {manifest.annotators[a]}".strip())
    for a in range(len(manifest.annotators)):
        for b in range(a + 1, len(manifest.annotators)):
            overlap = iou(boxes[:, a], boxes[:, b])
            for i in np.flatnonzero(drawn[:, a] & drawn[:, b] & (overlap < DISAGREEMENT)).tolist():
                people = f"{manifest.annotators[a]} and {manifest.annotators[b]}"
                yield ("box_disagreement", names[i], f"IoU {overlap[i]:.2f}, {people}")
