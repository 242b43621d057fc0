"""What cleaning tells apart in a folder of photographs whose names log what they are, as Markdown tables.

    python -m tests.benchmarks.cleaning FOLDER

The additional photographs are to be named by kind: `atlas_*` (good ones), `junk_*` (no cervix) and `blur_*`.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from cervix_jax.auditing import findings
from cervix_jax.datasets.cleaning import Gaussian
from cervix_jax.datasets.splits import INITIAL, SplitConfig, assign_splits

KINDS = ("atlas", "junk", "blur")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        audit = findings.audit_folder(Path(sys.argv[1]), Path(scratch) / "measurements.sqlite")
    manifest, assignment = audit.manifest, audit.assignment
    kind = np.array([Path(name).name.split("_")[0] for name in manifest.names])
    fitted = manifest.of(INITIAL) & (np.array(assignment.split) == "train")
    validation = np.array(assignment.split) == "validation"

    def auc(bad: str, score: np.ndarray) -> float:
        chosen = np.isin(kind, ["atlas", bad])
        return roc_auc_score(kind[chosen] == "atlas", score[chosen])

    print("| shrinkage | junk against atlas, AUC | ranks of junk of 205 | median log density: fitted, held out |")
    print("|---|---|---|---|")
    additional = np.isin(kind, KINDS)
    for shrinkage in (1e-6, 1e-3, None, 0.1, 0.5, 1.0):
        gaussian = Gaussian.fit(manifest.histograms[fitted], shrinkage)
        density = gaussian.log_density(manifest.histograms)
        ranks = sorted(int((density[additional] >= d).sum()) for d in density[kind == "junk"])
        medians = f"{np.median(density[fitted]):.0f}, {np.median(density[validation]):.0f}"
        print(f"| {shrinkage or 'Ledoit-Wolf'} | {auc('junk', density):.3f} | {ranks} | {medians} |")
    print(f"\nSharpness, blurred copies against atlas, AUC: {auc('blur', manifest.sharpness):.3f}; ", end="")
    print(f"threshold {assignment.least_sharp:.0f}, copies {np.sort(manifest.sharpness[kind == 'blur']).astype(int)}\n")
    print("| kept fraction | " + " | ".join(f"{k} of {(kind == k).sum()}" for k in KINDS) + " |")
    print("|---|---|---|---|")
    alone = dataclasses.replace(manifest, groups=np.arange(len(manifest.names)))
    for fraction in (0.25, 0.5, 0.75, 1.0):
        kept = np.array(assign_splits(alone, SplitConfig(keep_fraction=fraction)).split) == "train"
        print(f"| {fraction} | " + " | ".join(str((kept & (kind == k)).sum()) for k in KINDS) + " |")
    print("\n(without the near-duplicate rule, which drops every blurred copy)")


if __name__ == "__main__":
    main()
