"""Fits a temperature on half of the validation photographs and keeps the other half to choose sets and thresholds by.

python -m cervix_jax.calibrate --workdir=runs/quickstart
"""

from typing import Any

from absl import flags

from cervix_jax import commands, run_flags

BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Photographs a step.", lower_bound=1)
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Raw photographs, if they have moved since training.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared data sets, if it has moved since training.")


def main() -> dict[str, Any]:
    from cervix_jax.data import pipeline
    from cervix_jax.inference.calibration import calibrate
    from cervix_jax.inference.cases import split_cases

    predictor = run_flags.restore()
    data = pipeline.prepared(predictor.data_config, MANUAL_DIR.value, DATA_DIR.value)
    predictor.check_data(data.fingerprint)
    cases = split_cases(predictor, data.examples("validation"), "validation")
    probabilities = predictor.probabilities(cases.photographs, BATCH_SIZE.value)
    calibration = calibrate(probabilities, cases.labels, cases.ids, cases.groups)
    calibration.save(predictor.calibration_path)
    return {
        "temperature": calibration.temperature,
        **calibration.measured,
        "calibration": str(predictor.calibration_path),
    }


if __name__ == "__main__":
    commands.run(main)
