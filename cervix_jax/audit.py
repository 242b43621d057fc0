"""Looks through a folder of photographs for what would hurt: damage, near-duplicates, label conflicts, blur, and more.

python -m cervix_jax.audit --manual_dir=DIR --output=runs/audit
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app

MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of raw photographs.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the page, tables and contact sheets.", required=True)


def main() -> dict[str, Any]:
    from cervix_jax.auditing import findings, page

    folder, output = Path(MANUAL_DIR.value), Path(OUTPUT.value)
    found = findings.audit(folder, output / "measurements.sqlite")
    page.write(found, folder, output)
    counts = {kind: len(found.of(kind)) for kind in findings.KINDS}
    return counts | {
        "groups": len({finding.group for finding in found.of("near_duplicates")}),
        "photographs": found.counts,
        "page": str(output / "index.html"),
    }


if __name__ == "__main__":
    app.run(main)
