"""Fits a temperature on half of the validation photographs; the other half is the reference for sets and thresholds.

Of a cross-validation, on the out-of-fold probabilities of all photographs. With --images, for a site: on labelled
photographs of its own (folders Type_1, Type_2, Type_3), for --site=NAME of other programs.

python -m cervix_jax.calibrate --workdir=runs/quickstart
python -m cervix_jax.calibrate --workdir=runs/quickstart --images=FOLDER --site=NAME
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, run_flags

IMAGES = flags.DEFINE_string("images", None, "Labelled photographs of a site: a folder of Type_1, Type_2 and Type_3.")
COVERAGE = flags.DEFINE_float("coverage", 0.9, "Of a site: coverage of the sets that are reported.")
UNSAFE_RATE = flags.DEFINE_float(
    "unsafe_rate", 0.05, "Of a site: fraction of types 2 and 3 that may be called type 1, in what is reported."
)
run_flags.define_data_flags()
run_flags.define_site_flag()
CASE_PATTERN = app.case_flag()
flags.register_multi_flags_validator(
    ["images", "site"],
    lambda given: (given["images"] is None) == (given["site"] is None),
    "--images=FOLDER and --site=NAME go together",
)


def main() -> dict[str, Any]:
    if IMAGES.value:
        return _calibrate_site(Path(IMAGES.value))
    predictor = run_flags.restore()
    calibration = run_flags.calibrate(predictor)
    return {
        "temperature": calibration.temperature,
        **calibration.measured,
        "calibration": str(predictor.calibration_path),
    }


def _calibrate_site(folder: Path) -> dict[str, Any]:
    from cervix_jax.inference.site_report import recalibrate

    predictor = run_flags.restore()
    path = predictor.site_path(flags.FLAGS.site)
    calibration = recalibrate(
        predictor,
        folder,
        CASE_PATTERN.value,
        coverage=COVERAGE.value,
        unsafe_rate=UNSAFE_RATE.value,
        batch_size=run_flags.BATCH_SIZE.value,
    )
    calibration.save(path, predictor.identity)
    return {"site": flags.FLAGS.site, **calibration.measured, "calibration": str(path)}


if __name__ == "__main__":
    app.run(main)
