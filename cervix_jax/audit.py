"""Audits a folder of photographs: damage, near-duplicates, label conflicts, blur, exposure and more.

python -m cervix_jax.audit --manual_dir=DIR --output=runs/audit
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, output_flags

MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of raw photographs.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the page, tables and contact sheets.", required=True)
PREDICTIONS = flags.DEFINE_string(
    "predictions",
    None,
    "CSV of probabilities by models that have not seen the photographs (oof.csv of a cross-validation): labels that "
    "they confidently contradict are findings too.",
)


def main() -> dict[str, Any]:
    from cervix_jax.auditing import findings, page

    folder, output = Path(MANUAL_DIR.value), Path(OUTPUT.value)
    page.check_output(output, folder, overwrite=output_flags.OVERWRITE.value)
    predictions = Path(PREDICTIONS.value) if PREDICTIONS.value else None
    audit = findings.audit_folder(folder, output / page.MEASUREMENTS, predictions)
    page.write_page(audit, folder, output)
    counts = {kind: len(audit.of(kind)) for kind in findings.KINDS}
    return counts | {
        "groups": len({finding.group for finding in audit.of("near_duplicates")}),
        "photographs": audit.counts,
        "page": str(output / page.PAGE),
    }


if __name__ == "__main__":
    app.run(main)
