"""Measures the best checkpoint of runs on a split or on a labelled folder, every photograph once.

python -m cervix_jax.evaluate --workdir=runs/quickstart --split=validation --figures=runs/quickstart/figures
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, output_flags, process_flags, run_flags

SPLIT = flags.DEFINE_string("split", "validation", "Split of the run's data set.")
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Measure on a folder of Type_1, Type_2 and Type_3 instead; near-duplicates of training data are left out.",
)
flags.register_multi_flags_validator(
    ["images", "split"],
    lambda given: given["images"] is None or not flags.FLAGS["split"].present,
    "--images is a folder of its own, of which there is no --split: give one of the two",
)
UNSAFE_RATE = flags.DEFINE_float(
    "unsafe_rate",
    None,
    "Also report errors at the threshold that lets this fraction of types 2 and 3 be called type 1.",
)
ROBUSTNESS = flags.DEFINE_boolean(
    "robustness", False, "Also report agreement after encoding again, small crops, other light."
)
FIGURES = flags.DEFINE_string(
    "figures", None, "Folder for confusion matrix, reliability, risk-coverage, learning curves and sample predictions."
)
REPORT = flags.DEFINE_string(
    "report",
    None,
    "Page to write, NAME.html or a folder for report.html: metrics, figures and the worst errors in one file, several "
    "--workdir side by side.",
)
TABLE = flags.DEFINE_string(
    "table",
    None,
    "CSV file to write: type, uncalibrated probabilities, predicted type and 90 % set of each photograph; `compare` "
    "reads it.",
)
run_flags.define_data_flags()
run_flags.define_site_flag()
CASE_PATTERN = app.case_flag()


def main() -> dict[str, Any]:
    with process_flags.join_processes():
        return _evaluate()


def _check_outputs() -> None:
    """Raises OutputError, before the work, if something would be lost."""
    from cervix_jax import html_page, outputs
    from cervix_jax.inference.prediction_table import PredictionTable
    from cervix_jax.plots import evaluation_page, evaluation_report

    overwrite = output_flags.OVERWRITE.value
    if TABLE.value:
        outputs.check_outputs([Path(TABLE.value)], PredictionTable.is_table, overwrite=overwrite)
    if REPORT.value:
        outputs.check_outputs([evaluation_page.page_path(Path(REPORT.value))], html_page.is_page, overwrite=overwrite)
    if FIGURES.value:
        folder = Path(FIGURES.value)
        paths = [folder / f"{name}.png" for name in (*evaluation_report.NAMES, "worst_boxes")]
        paths += folder.glob("learning_curves_*.png")  # of an ensemble, as many as it has runs
        outputs.check_outputs(paths, outputs.is_figure, overwrite=overwrite)


def _evaluate() -> dict[str, Any]:
    import jax

    from cervix_jax.datasets.reader_labels import LABELS, Readings, read_labels
    from cervix_jax.errors import UserError
    from cervix_jax.inference.evaluation import evaluate
    from cervix_jax.inference.labelled import folder_photographs
    from cervix_jax.inference.prediction_table import PredictionTable
    from cervix_jax.inference.readers import describe_readers
    from cervix_jax.inference.systems import probabilities_alone
    from cervix_jax.plots import evaluation_page, evaluation_report
    from cervix_jax.training.processes import is_lead_host

    if REPORT.value and jax.process_count() > 1:
        raise UserError("--report is written by one process; evaluate with --figures and --table here")
    _check_outputs()
    if (localiser := run_flags.restore_localiser()) is not None:
        return _evaluate_localiser(localiser)
    predictor = run_flags.restore(calibrated=True)
    readings: Readings = {}
    if IMAGES.value:
        cases = folder_photographs(predictor, Path(IMAGES.value), CASE_PATTERN.value)
        source = {"images": IMAGES.value}
        if (labels := Path(IMAGES.value, LABELS)).is_file():
            damaged = [row["image_name"] for row in cases.skipped]
            readings = read_labels(labels, cases.ids, predictor.class_names, damaged=damaged)
    else:
        cases, source = run_flags.labelled_split(predictor, SPLIT.value), {"split": SPLIT.value}
    evaluation = evaluate(
        predictor, cases, unsafe_rate=UNSAFE_RATE.value, robust=ROBUSTNESS.value, batch_size=run_flags.BATCH_SIZE.value
    )
    name = IMAGES.value or SPLIT.value
    if readings:
        evaluation.metrics["readers"] = describe_readers(
            readings, evaluation.probabilities, cases.ids, predictor.class_names
        )
    if TABLE.value and is_lead_host():
        PredictionTable.of(cases, evaluation.probabilities, predictor.class_names, evaluation.sets).write(
            Path(TABLE.value)
        )
    if FIGURES.value and is_lead_host():
        evaluation_report.evaluation_figures(Path(FIGURES.value), predictor, name, cases, evaluation)
    if REPORT.value:
        alone = probabilities_alone(predictor, cases, run_flags.BATCH_SIZE.value)
        path = evaluation_page.page_path(Path(REPORT.value))
        evaluation_page.write_evaluation_page(path, predictor, name, cases, evaluation, alone)
    return evaluation.metrics | source | {"epoch": predictor.members[0].record["epoch"]}


def _evaluate_localiser(localiser: Any) -> dict[str, Any]:
    from cervix_jax.errors import UserError
    from cervix_jax.inference.localisation import evaluate_boxes
    from cervix_jax.plots.box_sheet import worst_boxes

    if REPORT.value or TABLE.value:
        raise UserError("--report and --table are of classifiers; --figures shows the worst boxes of a localiser")
    if IMAGES.value or ROBUSTNESS.value or UNSAFE_RATE.value is not None:
        raise UserError(
            "--images, --robustness and --unsafe_rate are of classifiers; a localiser is measured on a split"
        )
    examples = run_flags.localiser_split(localiser, SPLIT.value)
    metrics, boxes = evaluate_boxes(localiser, examples)
    if FIGURES.value:
        title, path = f"{run_flags.WORKDIR.value[0]}, {SPLIT.value}", Path(FIGURES.value) / "worst_boxes.png"
        worst_boxes(list(examples.images), boxes, examples.boxes.astype(float), examples.ids, title, path)
    return metrics | {"split": SPLIT.value, "epoch": localiser.record["epoch"]}


if __name__ == "__main__":
    app.run(main)
