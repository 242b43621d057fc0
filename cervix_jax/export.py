"""Exports a run: weights, a function that JAX runs without this software, and a model card.

python -m cervix_jax.export --workdir=runs/quickstart --output=runs/quickstart/export
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax import commands, run_flags

OUTPUT = flags.DEFINE_string("output", None, "Folder to write; made if missing.", required=True)
CALIBRATED = flags.DEFINE_boolean("calibrated", True, "Use the calibration of this run, where there is one.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Raw photographs, if they have moved since training.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared data sets, if it has moved since training.")


def main() -> dict[str, Any]:
    from cervix_jax.data import pipeline
    from cervix_jax.inference.calibration import Calibration
    from cervix_jax.inference.cases import split_cases
    from cervix_jax.inference.evaluation import evaluate
    from cervix_jax.inference.exporting import export

    predictor = run_flags.restore()
    data = pipeline.prepared(predictor.data_config, MANUAL_DIR.value, DATA_DIR.value)
    predictor.check_data(data.fingerprint)
    metrics, _ = evaluate(predictor, split_cases(predictor, data.examples("validation"), "validation"))
    calibration = Calibration.load(predictor.calibration_path) if CALIBRATED.value else None
    files = export(predictor, calibration, metrics, Path(OUTPUT.value))
    return {"files": files, "temperature": calibration.temperature if calibration else None}


if __name__ == "__main__":
    commands.run(main)
