"""How well the boxes of a localiser tell pictures without a cervix, or of another camera, from held-out photographs.

python -m tests.benchmarks.localiser RUN [FOLDER ...] [--data_dir DIR] [--manual_dir DIR]

RUN is the work directory of a localiser. The held-out photographs (validation) of its data set are compared with 100
synthetic pictures that show no cervix, and with those of the folders, by their names' prefix (`junk_1.jpg`: junk).
Prints, for each kind, the fraction that `predict` would flag by the box, and the AUROC of every criterion.
"""

import argparse
import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.quality import REASONS, RETAKE, ImageFeatures, QualityReference
from cervix_jax.images import synthetic
from cervix_jax.images.decode import to_stored
from cervix_jax.images.files import UnreadableError, find_photographs, read_bytes
from cervix_jax.training.localiser import Localiser
from tests.benchmarks.quality import area

CRITERIA = ("confidence", "cervix_size", "cervix_whole", "cervix_centered")
DRAWN = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--data_dir")
    parser.add_argument("--manual_dir")
    arguments = parser.parse_args()
    localiser = Localiser.restore(arguments.run)
    data = load_dataset(localiser.config, arguments.manual_dir, arguments.data_dir)
    examples = data.examples("validation")
    located = [localiser.locate_one(image) for image in examples.images]
    reference = QualityReference.fit(data.manifest, data.assignment, np.zeros(0), located)

    def ranks(image: Image.Image) -> dict[str, float]:
        assessed = reference.assess(ImageFeatures.of(image), localiser.locate_one(image)).ranks
        return {name: assessed[name] for name in CRITERIA}

    kinds: dict[str, list[dict[str, float]]] = collections.defaultdict(list)
    for kind, image in _pictures(arguments.folders):
        kinds[kind].append(ranks(image))
    good = [ranks(to_stored(examples.jpeg(i)).image) for i in range(len(examples))]
    print("| kind | pictures | flagged | " + " | ".join(REASONS[name] for name in CRITERIA) + " |")
    print("|---|---|---|" + "---|" * len(CRITERIA))
    print(f"| held out | {len(good)} | {_flagged(good)} |" + " |" * len(CRITERIA))
    for kind, bad in sorted(kinds.items()):
        areas = [area([q[name] for q in good], [q[name] for q in bad]) for name in CRITERIA]
        print(f"| {kind} | {len(bad)} | {_flagged(bad)} | " + " | ".join(f"{value:.3f}" for value in areas) + " |")


def _pictures(folders: list[Path]) -> Iterator[tuple[str, Image.Image]]:
    for i in range(DRAWN):
        yield "synthetic, no cervix", Image.fromarray(synthetic.draw(0, "additional", i, kind="junk").image)
    for folder in folders:
        for path in find_photographs(folder):
            try:
                yield path.stem.split("_")[0], to_stored(read_bytes(path)).image
            except UnreadableError:
                continue


def _flagged(pictures: list[dict[str, float]]) -> str:
    return f"{np.mean([min(ranks.values()) < RETAKE for ranks in pictures]):.0%}"


if __name__ == "__main__":
    main()
