"""Exports a run: weights, a function that JAX runs without this software, and a model card.

python -m cervix_jax.export --workdir=runs/quickstart --output=runs/quickstart/export
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, run_flags

OUTPUT = flags.DEFINE_string("output", None, "Folder to write; made if missing.", required=True)
CALIBRATED = flags.DEFINE_boolean("calibrated", True, "Use the calibration of this run, where there is one.")
run_flags.define_data_flags()


def main() -> dict[str, Any]:
    from cervix_jax.inference.artifact import check_exportable, export
    from cervix_jax.inference.evaluation import evaluate

    predictor = run_flags.restore(calibrated=CALIBRATED.value)
    check_exportable(predictor)
    cases = run_flags.labelled_split(predictor, "validation")
    metrics, _ = evaluate(predictor, cases, batch_size=run_flags.BATCH_SIZE.value)
    files = export(predictor, metrics, Path(OUTPUT.value))
    return {"files": files, "temperature": predictor.temperature if predictor.calibration else None}


if __name__ == "__main__":
    app.run(main)
