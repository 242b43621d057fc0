"""Checks that a run, prepared data or a folder of photographs is whole, and names what is damaged and what to do.

Status 0 if all is whole, 2 if not.

python -m cervix_jax.check --workdir=runs/quickstart
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Work directory of a run or of a cross-validation.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared data sets.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of raw photographs.")
flags.register_multi_flags_validator(
    ["workdir", "data_dir", "manual_dir"], lambda given: any(given.values()), "what is to be checked? Give one of them"
)


def main() -> dict[str, Any]:
    from cervix_jax.workflows import verification

    report = verification.Report()
    for workdir in WORKDIR.value:
        verification.check_runs(Path(workdir), report)
    if DATA_DIR.value:
        verification.check_data(Path(DATA_DIR.value), report)
    if MANUAL_DIR.value:
        verification.check_photographs(Path(MANUAL_DIR.value), report)
    report.raise_if_damaged()
    return {"checked": report.checked}


if __name__ == "__main__":
    app.run(main)
