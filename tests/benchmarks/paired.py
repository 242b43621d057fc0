"""Two systems on the same photographs: difference of their cross-entropy and accuracy, with paired 95 % intervals.

python -m tests.benchmarks.paired RUN[,RUN...] RUN[,RUN...] [--data_dir DIR] [--manual_dir DIR] [--tta flips]

Each argument is the runs of a system, one for each fold, in the same order. Each run is measured on the validation
photographs of its own fold; those of all folds are pooled, and near-duplicates are drawn together (1,000 resamples).
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference.bootstrap import PERCENTILES, group_samples
from cervix_jax.inference.labelled import split_photographs
from cervix_jax.inference.predictor import Predictor

RESAMPLES = 1000
Columns = dict[str, Float[np.ndarray, "n"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=lambda text: [Path(run) for run in text.split(",")])
    parser.add_argument("second", type=lambda text: [Path(run) for run in text.split(",")])
    parser.add_argument("--data_dir")
    parser.add_argument("--manual_dir")
    parser.add_argument("--tta", default="")
    arguments = parser.parse_args()
    (a, groups), (b, same) = (_measure(runs, arguments) for runs in (arguments.first, arguments.second))
    if not np.array_equal(groups, same):
        raise SystemExit("the runs have not held out the same photographs")
    print(f"{len(groups)} photographs\n| | first | second | difference | 95 % interval |\n|---|---|---|---|---|")
    samples = list(group_samples(groups, RESAMPLES))
    for name in a:
        difference = b[name] - a[name]
        low, high = np.percentile([difference[rows].mean() for rows in samples], PERCENTILES)
        values = f"{a[name].mean():.4f} | {b[name].mean():.4f} | {difference.mean():+.4f}"
        print(f"| {name} | {values} | {low:+.4f} to {high:+.4f} |")


def _measure(runs: list[Path], arguments: argparse.Namespace) -> tuple[Columns, Int[np.ndarray, "n"]]:
    losses, correct, groups = [], [], []
    for run in runs:
        predictor = Predictor.restore([run], augmentations=[name for name in arguments.tta.split(",") if name])
        data = load_dataset(predictor.data_config, arguments.manual_dir, arguments.data_dir)
        cases = split_photographs(predictor, data.examples("validation"), "validation")
        probabilities = predictor.probabilities(cases.photographs)
        losses.append(-np.log(probabilities[np.arange(len(cases.labels)), cases.labels]))
        correct.append(probabilities.argmax(axis=1) == cases.labels)
        groups.append(cases.groups)
    return {"loss": np.concatenate(losses), "accuracy": np.concatenate(correct).astype(float)}, np.concatenate(groups)


if __name__ == "__main__":
    main()
