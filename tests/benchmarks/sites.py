"""What recalibration and fine-tuning bring at a site: on half of its cases, measured on the other half, five times.

python -m tests.benchmarks.sites recalibrate RUN FOLDER PATTERN
python -m tests.benchmarks.sites finetune RUN FOLDER PATTERN OUTPUT [SPLIT[:SIZE] ...]

RUN is the work directory of a run or a cross-validation of `configs/best.py`, FOLDER has Type_1 to Type_3, PATTERN
finds the case in a name. `finetune` trains `configs/finetune.py` on 50, 100 or all photographs of a half (whole cases)
and adds lines to OUTPUT/results.jsonl, whose means it prints; a run is compared with the one that it started from.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.comparison import compare
from cervix_jax.inference.labelled import folder_photographs
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.site_calibration import calibrate_site
from cervix_jax.inference.site_report import Said, compare_said
from cervix_jax.training import loop
from cervix_jax.training.initial_run import initial_run
from configs import finetune

SPLITS, SIZES = 5, (50, 100, None)
SHOWN = ("loss", "kappa", "accuracy", "unsafe_rate")


def halves(cases, split):
    """Mask of one half of the cases of each type, drawn at random by the number of the split."""
    groups, first = np.unique(cases.groups, return_index=True)
    order = np.random.default_rng(split).permutation(len(groups))
    order = order[np.argsort(cases.labels[first][order], kind="stable")]
    return np.isin(cases.groups, groups[order[::2]])


def recalibrate(run: Path, folder: Path, pattern: str) -> None:
    predictor = Predictor.restore([run])
    cases = folder_photographs(predictor, folder, pattern)
    p, by_fold, _ = predictor.distributions(cases.photographs)
    earlier = Calibration.load(predictor.calibration_path, predictor.identity)
    rows = []
    for split in range(SPLITS):
        half = halves(cases, split)
        for a, b in ((half, ~half), (~half, half)):
            made = calibrate_site(
                p[a], cases.labels[a], [cases.ids[i] for i in np.flatnonzero(a).tolist()], cases.groups[a]
            )
            of_b = None if by_fold is None else by_fold[:, b]
            before = Said.by(earlier, p[b], of_b, 0.9, 0.05)
            after = Said.by(made, p[b], None, 0.9, 0.05)
            ids = [cases.ids[i] for i in np.flatnonzero(b).tolist()]
            report = compare_said(before, after, cases.labels[b], ids, cases.groups[b], predictor.class_names)
            rows.append({kind: report[kind] for kind in ("before", "after")} | {"scaling": made.measured["scaling"]})
    print("scalings", [row["scaling"] for row in rows])
    for kind in ("before", "after"):
        for name in rows[0][kind]:
            values = np.array([row[kind][name] for row in rows], float)
            spread = f"{len(values)} halves {values.min():.3f} to {values.max():.3f}"
            print(f"{kind} {name}: mean {values.mean():.3f}, {spread}")


def finetune_split(run: Path, folder: Path, pattern: str, output: Path, split: int, sizes) -> None:
    config = finetune.get_config()
    config.selection.fold = split % 5
    config.init.workdir, config.dataset.crop, config.dataset.case_pattern = str(run), "init", pattern
    source = Predictor.restore([initial_run(config)])
    cases = folder_photographs(source, folder, pattern)
    half = halves(cases, split)
    held_out = np.flatnonzero(~half).tolist()
    photographs = [cases.photographs[i] for i in held_out]

    def table(predictor):
        return PredictionTable(
            [cases.ids[i] for i in held_out],
            cases.labels[held_out],
            cases.groups[held_out],
            np.full(len(held_out), -1),
            predictor.probabilities(photographs),
            predictor.class_names,
        )

    before = table(source)
    for size in sizes:
        chosen = whole_cases(cases, np.flatnonzero(half), size, split)
        place = output / f"split{split}_{size or 'all'}"
        shutil.rmtree(place, ignore_errors=True)
        for i in chosen:
            target = place / "photographs/train" / cases.ids[i]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / cases.ids[i], target)
        config.dataset.manual_dir, config.dataset.data_dir = str(place / "photographs"), str(place / "data")
        loop.train(config, place / "run")
        result = compare(before, table(Predictor.restore([place / "run"])))
        row = {"split": split, "size": size, "photographs": len(chosen), "held_out": len(held_out)}
        row["cases"] = len(set(cases.groups[chosen].tolist()))
        row |= {"conclusion": result["conclusion"], "metrics": {name: result["metrics"][name] for name in SHOWN}}
        shutil.rmtree(place)
        with (output / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def whole_cases(cases, rows, size, split):
    """Rows of whole cases, types in turn, until there are `size` photographs; all without a size."""
    groups = sorted(set(cases.groups[rows].tolist()), key=lambda group: digest(f"{split} {group}"))
    label = {group: int(cases.labels[cases.groups == group][0]) for group in groups}
    place = {group: sum(label[other] == label[group] for other in groups[:i]) for i, group in enumerate(groups)}
    order = sorted(groups, key=lambda group: (place[group], label[group]))
    chosen = []
    for group in order:
        if size is not None and len(chosen) >= size:
            break
        chosen += [i for i in rows.tolist() if cases.groups[i] == group]
    return chosen


def digest(name):
    return hashlib.sha256(name.encode()).digest()


def show(output: Path) -> None:
    rows = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    for size in SIZES:
        of_size = [row for row in rows if row["size"] == size]
        if not of_size:
            continue
        mean = np.mean([row["photographs"] for row in of_size])
        print(f"{size or 'all'}: {len(of_size)} splits, {mean:.0f} photographs")
        for name in SHOWN:
            first, second, gain = (
                np.array([row["metrics"][name][key] for row in of_size]) for key in ("first", "second", "difference")
            )
            low, high = np.mean([row["metrics"][name]["interval"] for row in of_size], axis=0)
            print(
                f"  {name}: {first.mean():.3f} -> {second.mean():.3f}; difference {gain.mean():+.3f}, splits "
                f"{gain.min():+.3f} to {gain.max():+.3f}, mean interval {low:+.3f} to {high:+.3f}"
            )
        print("  conclusions:", [row["conclusion"] for row in of_size])


if __name__ == "__main__":
    what, run, folder, pattern, *rest = sys.argv[1:]
    if what == "recalibrate":
        recalibrate(Path(run), Path(folder), pattern)
    else:
        output = Path(rest[0])
        output.mkdir(parents=True, exist_ok=True)
        for job in rest[1:]:
            split, _, size = job.partition(":")
            sizes = [None if size == "all" else int(size)] if size else SIZES
            finetune_split(Path(run), Path(folder), pattern, output, int(split), sizes)
        show(output)
