"""Recall of near-duplicates after each kind of change, and precision of pairs, as a Markdown table.

    python -m tests.benchmarks.near_duplicates [FOLDER]

Of 60 synthetic photographs and, if a folder is given, of 200 of its photographs.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax.images import synthetic
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import find_photographs
from cervix_jax.images.geometry import CropResize
from cervix_jax.images.near_duplicates import groups, signature
from tests.images.test_near_duplicates import CHANGES


def measure(originals: list[np.ndarray]) -> tuple[dict[str, float], float]:
    """Recall by change, and precision: the fraction of pairs in one group that have one origin."""
    n = len(originals)
    changed = [np.asarray(change(Image.fromarray(image))) for change in CHANGES.values() for image in originals]
    numbers = groups(np.stack([signature(image) for image in [*originals, *changed]])).reshape(-1, n)
    recall = {name: float((row == numbers[0]).mean()) for name, row in zip(CHANGES, numbers[1:], strict=True)}
    flat, origin = numbers.ravel(), np.tile(np.arange(n), len(numbers))
    together = np.triu(flat[:, None] == flat[None], 1)
    return recall, float((origin[:, None] == origin[None])[together].mean())


def main() -> None:
    sets = {"60 synthetic": [synthetic.draw(5, "train", i).image for i in range(60)]}
    if sys.argv[1:]:
        paths = find_photographs(Path(sys.argv[1]))
        chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, 200).astype(int)]
        sets["200 photographs"] = [CropResize((320, 240))(read_photograph(path)) for path in chosen]
    results = {name: measure(images) for name, images in sets.items()}
    print("| change | " + " | ".join(results) + " |")
    print("|---|" + "---|" * len(results))
    for change in CHANGES:
        print(f"| {change} | " + " | ".join(f"{recall[change]:.3f}" for recall, _ in results.values()) + " |")
    print("| precision of pairs | " + " | ".join(f"{precision:.3f}" for _, precision in results.values()) + " |")


if __name__ == "__main__":
    main()
