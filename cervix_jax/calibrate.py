"""Fits a temperature on half of the validation photographs; the other half is the reference for sets and thresholds.

Of a cross-validation, on the out-of-fold probabilities of all photographs.

python -m cervix_jax.calibrate --workdir=runs/quickstart
"""

from typing import Any

from cervix_jax.cli import app, run_flags

run_flags.define_data_flags()


def main() -> dict[str, Any]:
    from cervix_jax.inference.calibration import calibrate

    predictor = run_flags.restore()
    cases = run_flags.labelled_split(predictor, "validation")
    probabilities = cases.probabilities(predictor, run_flags.BATCH_SIZE.value)
    calibration = calibrate(probabilities, cases.labels, cases.ids, cases.groups, cases.folds)
    calibration.save(predictor.calibration_path, predictor.identity)
    return {
        "temperature": calibration.temperature,
        **calibration.measured,
        "calibration": str(predictor.calibration_path),
    }


if __name__ == "__main__":
    app.run(main)
