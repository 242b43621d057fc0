"""Writes the probabilities of every photograph of a folder as a CSV file, and what to do with each as another.

Of a localiser it writes the box around the cervix: image_name,left,top,right,bottom,confidence.

python -m cervix_jax.predict --workdir=runs/quickstart --images=DIR --output=predictions.csv --coverage=0.9
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, output_flags, run_flags

IMAGES = flags.DEFINE_string("images", None, "Folder of photographs, with its subfolders; or a file.", required=True)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "CSV file to write: image_name, then a probability for each type. NAME.decisions.csv is written beside it.",
    required=True,
)
COVERAGE = flags.DEFINE_float("coverage", None, "Probability with which prediction sets hold the true type.")
UNSAFE_RATE = flags.DEFINE_float("unsafe_rate", None, "Fraction of types 2 and 3 that may be called type 1.")
CALIBRATED = flags.DEFINE_boolean("calibrated", True, "Use the calibration of these runs, where there is one.")
run_flags.define_site_flag()
CASE_PATTERN = app.case_flag()


def main() -> dict[str, Any]:
    from cervix_jax.inference import localisation
    from cervix_jax.inference.decisions import DecisionRule
    from cervix_jax.inference.prediction_files import check_output, predict_folder
    from cervix_jax.progress import log

    check_output(Path(OUTPUT.value), overwrite=output_flags.OVERWRITE.value)
    if localisers := run_flags.restore_localisers():
        return localisation.locate_folder(localisers, Path(IMAGES.value), Path(OUTPUT.value))
    predictor = run_flags.restore(calibrated=CALIBRATED.value)
    if CALIBRATED.value and predictor.calibration is None:
        log("not calibrated: there is no calibration of these runs with these flags")
    return predict_folder(
        predictor,
        Path(IMAGES.value),
        Path(OUTPUT.value),
        rule=DecisionRule.fit(predictor.calibration, COVERAGE.value, UNSAFE_RATE.value),
        case_pattern=CASE_PATTERN.value,
        batch_size=run_flags.BATCH_SIZE.value,
    )


if __name__ == "__main__":
    app.run(main)
