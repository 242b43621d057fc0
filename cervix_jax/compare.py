"""Compares two systems on the photographs that both hold out, with paired 95 % intervals.

Each --workdir is that of a run or of a cross-validation, or a table that crossvalidate or evaluate wrote (oof.csv).

python -m cervix_jax.compare --workdir=runs/a --workdir=runs/b
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, run_flags

flags.register_validator("workdir", lambda names: len(names) == 2, "two systems are compared: give --workdir twice")
run_flags.define_data_flags()


def main() -> dict[str, Any]:
    from cervix_jax.inference.comparison import compare
    from cervix_jax.inference.prediction_table import PredictionTable
    from cervix_jax.progress import log

    def held_out(name: str) -> PredictionTable:
        if name.endswith(".csv"):
            return PredictionTable.read(Path(name))
        predictor = run_flags.restore(workdirs=[name])
        cases = run_flags.labelled_split(predictor, "validation")
        probabilities = cases.probabilities(predictor, run_flags.BATCH_SIZE.value)
        return PredictionTable.of(cases, probabilities, predictor.class_names)

    first, second = run_flags.WORKDIR.value
    result = {"first": first, "second": second} | compare(held_out(first), held_out(second))
    log(f"{second} is {result['conclusion']} than {first}")
    return result


if __name__ == "__main__":
    app.run(main)
