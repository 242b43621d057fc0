"""How far two people agree on the box around the cervix.

python -m tests.benchmarks.annotators DIR A B

DIR is a raw folder with boxes (`boxes.csv` or others). Prints the IoU of B's boxes with A's on the photographs that
both have drawn: as drawn, and adjusted to A's convention by a linear regression of A's centres and log sizes on B's,
out-of-fold (five random folds).
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cervix_jax.datasets import annotations, folders
from cervix_jax.images.boxes import iou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("first")
    parser.add_argument("second")
    arguments = parser.parse_args()
    boxes, _ = annotations.read_boxes(arguments.folder, folders.scan(arguments.folder, additional=False))
    both = [drawn for drawn in boxes.values() if {arguments.first, arguments.second} <= drawn.keys()]
    a, b = (np.array([drawn[name] for drawn in both]) for name in (arguments.first, arguments.second))
    print(f"{len(both)} photographs\n| | mean IoU | median | above 0.5 | above 0.7 |\n|---|---|---|---|---|")
    for name, other in (("as drawn", b), ("adjusted", adjusted(a, b))):
        overlap = iou(a, other)
        above = " | ".join(f"{(overlap > limit).mean():.1%}" for limit in (0.5, 0.7))
        print(f"| {name} | {overlap.mean():.3f} | {np.median(overlap):.3f} | {above} |")


def adjusted(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Boxes as A would draw them, predicted from B's."""
    centers, sizes = (b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]
    inputs = np.column_stack([centers, sizes, np.log(sizes), np.sqrt(sizes), np.ones(len(b))])
    targets = np.column_stack([(a[:, :2] + a[:, 2:]) / 2, np.log(a[:, 2:] - a[:, :2])])
    folds, result = np.random.default_rng(0).permutation(len(b)) % 5, np.empty_like(b)
    for fold in range(5):
        weights, *_ = np.linalg.lstsq(inputs[folds != fold], targets[folds != fold], rcond=None)
        center, size = np.split(inputs[folds == fold] @ weights, [2], axis=1)
        result[folds == fold] = np.column_stack([center - np.exp(size) / 2, center + np.exp(size) / 2])
    return result


if __name__ == "__main__":
    main()
