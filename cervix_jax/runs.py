"""What a work directory holds besides weights: the record of the run and its metrics, epoch by epoch.

`run.json` says what was computed: every option, versions, git revision, class names, preprocessing and the
fingerprint of the data.
`metrics.jsonl` has one line an epoch. Both are plain text, so that a run can be read without this software.
`quality.npz` says what photographs it was trained on look like (`data/quality.py`).
"""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_collections

from cervix_jax import config as options
from cervix_jax.errors import UserError

RECORD, METRICS, QUALITY_REFERENCE = "run.json", "metrics.jsonl", "quality.npz"


class RunError(UserError):
    """A work directory is missing, incomplete or of another run; the message says which and what to do."""


def open_run(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Claims a work directory for a config: writes its record, or checks that it may be continued.

    Raises:
      RunError: it belongs to a run of another config; the message shows every difference.
    """
    wanted = options.flatten(config)
    if (workdir / RECORD).exists():
        recorded = options.flatten(read_record(workdir)["config"])
        if changed := options.differences(recorded, wanted):
            raise RunError(
                f"{workdir} holds a run of another configuration:\n  "
                + "\n  ".join(changed)
                + "\nChoose another --workdir, or the configuration that it was started with."
            )
    workdir.mkdir(parents=True, exist_ok=True)
    write_record(workdir, config=config.to_dict(), versions=_versions(), revision=_revision())


def check_data(workdir: Path, fingerprint: str) -> None:
    """Raises RunError if the run was started on data of another fingerprint."""
    if read_record(workdir).get("data_fingerprint", fingerprint) != fingerprint:
        raise RunError(
            f"{workdir} was trained on other photographs than the prepared data set holds now; "
            "choose another workdir, or the data_dir that it was trained on"
        )


def write_record(workdir: Path, **entries: Any) -> None:
    """Adds entries to the record, replacing the file at once, so that it is never half written."""
    path = workdir / RECORD
    record = json.loads(path.read_text()) if path.exists() else {}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record | entries, indent=2) + "\n")
    partial.replace(path)


def read_record(workdir: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
      RunError: there is none.
    """
    path = workdir / RECORD
    if not path.exists():
        raise RunError(f"{workdir} holds no run: {path} is missing; train one with --workdir={workdir}")
    return json.loads(path.read_text())


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """One entry an epoch, oldest first; a line cut off by a crash is left out."""
    path = workdir / METRICS
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_metrics(workdir: Path, rows: list[dict[str, Any]]) -> None:
    """Writes all epochs anew; the file is replaced at once."""
    partial = workdir / (METRICS + ".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    partial.replace(workdir / METRICS)


def _versions() -> dict[str, str]:
    names = (
        "cervix_jax",
        "jax",
        "flax",
        "optax",
        "orbax-checkpoint",
        "grain",
        "tensorflow-datasets",
        "numpy",
    )
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def _revision() -> str | None:
    """Git's commit of this software, '-dirty' added if it was changed; None where it does not run from a clone."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # not another project's, in whose environment this is installed
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
