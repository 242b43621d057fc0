"""Audits a folder of photographs: damage, near-duplicates, label conflicts, blur, exposure and more.

python -m cervix_jax.audit --manual_dir=DIR --output=runs/audit
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, output_flags

MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "Folder of raw photographs, or a CSV of path,type[,case][,split].", required=True
)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the page, tables and contact sheets.", required=True)
PREDICTIONS = flags.DEFINE_string(
    "predictions",
    None,
    "CSV of probabilities by models that have not seen the photographs (oof.csv of a cross-validation): labels that "
    "they confidently contradict are findings too.",
)
CASE_PATTERN = app.case_flag()


def main() -> dict[str, Any]:
    from cervix_jax.auditing import findings, page
    from cervix_jax.datasets.photograph_table import is_table, lay_out

    folder, output = Path(MANUAL_DIR.value), Path(OUTPUT.value)
    if is_table(folder):
        folder = lay_out(folder, output)
    page.check_output(output, folder, overwrite=output_flags.OVERWRITE.value)
    predictions = Path(PREDICTIONS.value) if PREDICTIONS.value else None
    audit = findings.audit_folder(folder, output / page.MEASUREMENTS, predictions, CASE_PATTERN.value)
    page.write_page(audit, folder, output)
    counts = {kind: len(audit.of(kind)) for kind in findings.KINDS}
    return counts | {
        "groups": len({finding.group for finding in audit.of("near_duplicates")}),
        "photographs": audit.counts,
        "page": str(output / page.PAGE),
    }


if __name__ == "__main__":
    app.run(main)
