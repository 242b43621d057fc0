"""What a cross-validation says of every photograph by a run that has not seen it, and how good that is."""

import contextlib
import json
from typing import Any

import numpy as np
from jaxtyping import Float

from cervix_jax.atomic import write_atomic
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference.clinical_metrics import detailed_metrics, none_if_nan, scalar_metrics
from cervix_jax.inference.labelled import LabelledPhotographs, split_photographs
from cervix_jax.inference.localisation import box_metrics, write_boxes
from cervix_jax.inference.prediction_table import PredictionTable
from cervix_jax.inference.predictor import Predictor
from cervix_jax.progress import log
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.processes import is_lead_host, lead_host_first
from cervix_jax.workflows.folds import FoldPlan

TABLE, RESULTS = "oof.csv", "crossvalidation.json"
SPREAD = ("loss", "accuracy", "kappa", "auroc")  # of these the folds' standard deviation is given


def gather(plan: FoldPlan) -> dict[str, Any]:
    """Writes `oof.csv` and `crossvalidation.json` into the folder of a cross-validation whose runs are finished.

    Nothing is computed again while the runs are the same.

    Args:
      plan: of the cross-validation.

    Returns:
      `unfinished`: work directories, and nothing else if there are any; or the metrics of all photographs, see
      `out_of_fold_metrics`, or `box_metrics` of localisers; and the path of `oof.csv`.
    """
    if unfinished := plan.unfinished():
        log(f"to be trained before the folds can be brought together: {', '.join(map(str, unfinished))}")
        return {"unfinished": [str(workdir) for workdir in unfinished]}
    workdirs = [workdir for _, workdir in plan.runs(range(plan.config.selection.folds))]
    if plan.config.task == "localise":
        return _gather_boxes(plan, [Localiser.restore(workdir) for workdir in workdirs])
    predictor = Predictor.restore(workdirs)
    path, results = plan.workdir / TABLE, plan.workdir / RESULTS
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: computed again
            recorded = json.loads(results.read_text())
            if recorded["predictor"] == predictor.identity:
                return recorded
    config = plan.config
    cases = split_photographs(
        predictor,
        lambda data: lead_host_first(lambda: load_dataset(data, config.dataset.manual_dir, config.dataset.data_dir)),
        "validation",
    )
    probabilities = cases.probabilities(predictor, config.eval_batch_size)
    metrics = out_of_fold_metrics(predictor, cases, probabilities)
    metrics |= {"predictor": predictor.identity, "table": str(path)}
    if is_lead_host():
        PredictionTable.of(cases, probabilities, predictor.class_names).write(path)
        write_atomic(results, json.dumps(metrics, indent=2) + "\n")
    return metrics


def out_of_fold_metrics(
    predictor: Predictor, cases: LabelledPhotographs, probabilities: Float[np.ndarray, "n k"]
) -> dict[str, Any]:
    """`detailed_metrics` of all photographs, with intervals; and how the folds differ.

    Args:
      predictor: a cross-validation.
      cases: its n photographs.
      probabilities: of each, by the runs that held it out.

    Returns:
      Also `folds`: `num_examples`, loss, accuracy, kappa and AUROC of each; `spread`: their standard deviation.
    """
    if cases.folds is None:
        raise ValueError("these photographs are not those of a cross-validation")
    by_fold = {}
    for fold in predictor.by_fold:
        rows = cases.folds == fold
        p, labels = probabilities[rows], cases.labels[rows]
        scalars = scalar_metrics(p, labels, predictor.class_names, p.argmax(axis=1))
        by_fold[str(fold)] = {"num_examples": len(labels)} | {name: none_if_nan(scalars[name]) for name in SPREAD}
    columns = {name: np.array([row[name] for row in by_fold.values()], float) for name in SPREAD}
    return detailed_metrics(probabilities, cases.labels, predictor.class_names, cases.groups) | {
        "folds": by_fold,
        "spread": {name: none_if_nan(float(values.std(ddof=1))) for name, values in columns.items()},
    }


def _gather_boxes(plan: FoldPlan, localisers: list[Localiser]) -> dict[str, Any]:
    """Likewise of localisers; with several seeds, of the first."""
    ids: list[str] = []
    boxes, examples = [], []
    for localiser in localisers[:: plan.seeds]:
        data = load_dataset(localiser.config, plan.config.dataset.manual_dir, plan.config.dataset.data_dir)
        localiser.check_data(data.fingerprint)
        examples.append(data.examples("validation"))
        boxes.append(np.column_stack(localiser.locate(examples[-1].images)))
        ids += examples[-1].ids
    found = np.concatenate(boxes).astype(float)
    metrics = box_metrics(
        found,
        np.concatenate([each.boxes for each in examples]).astype(float),
        np.concatenate([each.labels for each in examples]),
        np.concatenate([each.groups for each in examples]),
        examples[0].class_names,
    )
    path = plan.workdir / TABLE
    if is_lead_host():
        write_boxes(path, ids, found)
        write_atomic(plan.workdir / RESULTS, json.dumps(metrics, indent=2) + "\n")
    return metrics | {"table": str(path)}
