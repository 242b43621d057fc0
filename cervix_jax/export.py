"""Exports runs or a localiser: weights, a function that JAX runs without this software, and a model card.

python -m cervix_jax.export --workdir=runs/quickstart --output=runs/quickstart/export
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, output_flags, run_flags

OUTPUT = flags.DEFINE_string("output", None, "Folder to write; made if missing.", required=True)
CALIBRATED = flags.DEFINE_boolean("calibrated", True, "Use the calibration of these runs, where there is one.")
run_flags.define_data_flags()
run_flags.define_site_flag()


def main() -> dict[str, Any]:
    from cervix_jax.inference.artifact import check_exportable, check_output, export, export_localiser
    from cervix_jax.inference.evaluation import evaluate
    from cervix_jax.inference.localisation import evaluate_boxes

    check_output(Path(OUTPUT.value), overwrite=output_flags.OVERWRITE.value)
    if (localiser := run_flags.restore_localiser()) is not None:
        boxes, _ = evaluate_boxes(localiser, run_flags.localiser_split(localiser, "validation"))
        name = Path(run_flags.WORKDIR.value[0]).resolve().name
        return {"files": export_localiser(localiser, name, boxes, Path(OUTPUT.value))}
    predictor = run_flags.restore(calibrated=CALIBRATED.value)
    check_exportable(predictor)
    cases = run_flags.labelled_split(predictor, "validation")
    metrics = evaluate(predictor, cases, batch_size=run_flags.BATCH_SIZE.value).metrics
    files = export(predictor, metrics, Path(OUTPUT.value))
    return {"files": files, "temperature": predictor.temperature if predictor.calibration else None}


if __name__ == "__main__":
    app.run(main)
