"""How well quality control separates spoilt pictures from held-out photographs.

python -m tests.benchmarks.quality RUN [--data_dir DIR] [--manual_dir DIR]

RUN is a work directory. The held-out photographs (validation) of its data set are compared with the additional ones,
whose names say what they are: `junk_*` (no cervix), `blur*` (blurred copies), `atlas_*` (another camera). Prints, for
each kind, the fraction that is flagged, the AUROC of the lowest rank, and that of the best criterion.
"""

import argparse
import collections
from pathlib import Path

import numpy as np

from cervix_jax import config as options
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.quality import ImageFeatures, QualityAssessment, QualityReference
from cervix_jax.inference.clinical_metrics import auroc
from cervix_jax.runs import QUALITY_REFERENCE, read_record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data_dir")
    parser.add_argument("--manual_dir")
    arguments = parser.parse_args()
    config = options.unflatten(options.flatten(read_record(arguments.run)["config"]))
    data = load_dataset(config, arguments.manual_dir, arguments.data_dir)
    reference, manifest, split = (
        QualityReference.load(arguments.run / QUALITY_REFERENCE),
        data.manifest,
        np.array(data.assignment.split),
    )
    if reference is None:
        raise SystemExit(f"{arguments.run} has no {QUALITY_REFERENCE}")
    kinds: dict[str, list[QualityAssessment]] = collections.defaultdict(list)
    for i, name in enumerate(manifest.names):
        assessment = reference.assess(ImageFeatures(manifest.histograms[i], float(manifest.sharpness[i])))
        if split[i] == "validation":
            kinds["held out"].append(assessment)
        elif name.startswith("additional/"):
            stem = Path(name).stem
            kinds[stem.split("_")[0] if "_" in stem else "unspoilt"].append(assessment)
    good = kinds.pop("held out")
    print("| kind | pictures | flagged | AUROC of the rank | best criterion | its AUROC |\n|---|---|---|---|---|---|")
    print(f"| held out | {len(good)} | {flagged(good)} | | | |")
    for kind, bad in sorted(kinds.items()):
        areas = {name: area([q.ranks[name] for q in good], [q.ranks[name] for q in bad]) for name in good[0].ranks}
        best = max(areas, key=lambda name: areas[name])
        rank = area([q.rank for q in good], [q.rank for q in bad])
        print(f"| {kind} | {len(bad)} | {flagged(bad)} | {rank:.3f} | {best} | {areas[best]:.3f} |")


def flagged(assessments: list[QualityAssessment]) -> str:
    return f"{np.mean([bool(assessment.retake) for assessment in assessments]):.0%}"


def area(good: list[float], bad: list[float]) -> float:
    """Probability that a good photograph ranks above a bad one."""
    return auroc(np.array(good + bad), np.array([True] * len(good) + [False] * len(bad)))


if __name__ == "__main__":
    main()
