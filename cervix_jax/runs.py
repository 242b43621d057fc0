"""The files of a work directory, but for what `training/checkpoints.py` keeps in its folder `checkpoints`.

`run.json`, the run record, has every option, versions, git revision, class names, preprocessing and the fingerprint of
the data. `metrics.jsonl` has one line per epoch. Both are plain text, so that they can be read without this software.
`quality.npz` describes the photographs that the run was trained on (`datasets/quality.py`). The work directory of a
cross-validation holds one of each fold.
"""

import json
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_collections

from cervix_jax import config as options
from cervix_jax.atomic import write_atomic
from cervix_jax.errors import UserError
from cervix_jax.progress import log

RECORD, METRICS, QUALITY_REFERENCE, LOCALISER = "run.json", "metrics.jsonl", "quality.npz", "localiser"
CHECKPOINTS, DAMAGED_METRICS, LOCK = "checkpoints", "metrics.damaged.jsonl", ".lock"

# Entries of the record beside the fingerprint that a run that is resumed must have too, and what differs if not.
DIGESTS = {
    "examples_digest": "on other photographs than config.selection chooses now (has its exclude file changed?)",
    "targets_digest": "towards other labels than the file of config.dataset.readers holds now",
    "localiser_digest": "on what another localiser than that of config.dataset.crop found (was it trained on?)",
}

_FOLD_NAME = re.compile(r"fold(\d+)(?:_seed(\d+))?")  # see `fold_workdir`


class RunError(UserError):
    """A work directory is missing, incomplete or belongs to another run; the message says which and what to do."""


def open_run(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the record of a new run, or updates that of a run that is resumed.

    Raises:
      RunError: see `check_config`.
    """
    check_config(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    write_record(workdir, config=config.to_dict(), versions=_versions(), revision=_revision())


def check_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Checks that a run that is there, if any, can be resumed with the config.

    Raises:
      RunError: it cannot; the message shows every difference.
    """
    if (workdir / RECORD).exists():
        recorded = options.flatten(read_record(workdir)["config"])
        if changed := options.differences(recorded, options.flatten(config)):
            raise RunError(
                f"{workdir} holds a run of another configuration:\n  "
                + "\n  ".join(changed)
                + "\nGive another --workdir, or the configuration that it was started with."
            )


def check_data(workdir: Path, fingerprint: str) -> None:
    """Raises RunError if the run was trained on data of another fingerprint."""
    recorded = read_record(workdir) if (workdir / RECORD).exists() else {}
    if recorded.get("data_fingerprint", fingerprint) != fingerprint:
        raise RunError(
            f"{workdir} was trained on other photographs than the prepared data set holds now; "
            "give another --workdir, or the data_dir that it was trained on"
        )


def check_digests(workdir: Path, digests: Mapping[str, str | None]) -> None:
    """Raises RunError if one of `DIGESTS` is not as it is recorded; runs of older versions have not recorded all."""
    recorded = read_record(workdir) if (workdir / RECORD).exists() else {}
    for name, digest in digests.items():
        if recorded.get(name, digest) != digest:
            raise RunError(f"{workdir} was trained {DIGESTS[name]}; give another --workdir, or this as it was")


def fold_workdir(workdir: Path, fold: int, seed: int = 0) -> Path:
    """Where a cross-validation keeps the run of a fold; further seeds, counted from 0, have folders of their own."""
    return workdir / (f"fold{fold}" if seed == 0 else f"fold{fold}_seed{seed}")


def member_workdirs(workdir: Path) -> list[Path]:
    """The runs of a work directory: those of a cross-validation by fold and seed, or else the folder itself.

    One that has checkpoints and has lost its record is among them, for `read_record` to name it.
    """
    begun = {path.parent for name in (RECORD, CHECKPOINTS) for path in workdir.glob(f"*/{name}")}
    names = ((_FOLD_NAME.fullmatch(path.name), path) for path in begun)
    folds = sorted((int(match[1]), int(match[2] or 0), path) for match, path in names if match)
    return [workdir] if (workdir / RECORD).exists() or not folds else [path for *_, path in folds]


def write_record(workdir: Path, **entries: Any) -> None:
    """Adds or replaces entries of the record."""
    path = workdir / RECORD
    record = read_record(workdir) if path.exists() else {}
    write_atomic(path, json.dumps(record | entries, indent=2) + "\n")


def read_record(workdir: Path) -> dict[str, Any]:
    """Reads the record of a run.

    Raises:
      RunError: there is none, or it is damaged.
    """
    path = workdir / RECORD
    if not path.exists() and (workdir / CHECKPOINTS).exists():
        raise RunError(f"{path} is missing; rerun the command that trained the run, which rebuilds it")
    if not path.exists():
        raise RunError(f"{workdir} holds no run: {path} is missing; train one with --workdir={workdir}")
    try:
        record = json.loads(path.read_text())
        hash(tuple(options.flatten(record["config"]).items()))  # as values of options can be
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged; remove it and rerun the command that trained the run, which rebuilds it"
        ) from error
    return record


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """One row per epoch, oldest first, without lines that are damaged; empty if there is no file."""
    return [row for line in _metrics_lines(workdir) if (row := _row(line)) is not None]


def write_metrics(workdir: Path, rows: list[dict[str, Any]]) -> None:
    """Replaces the metrics of all epochs; lines that are damaged are kept in `metrics.damaged.jsonl`."""
    if damaged := damaged_metrics(workdir):
        path = workdir / DAMAGED_METRICS
        earlier = path.read_text(errors="replace") if path.exists() else ""
        write_atomic(path, earlier + "".join(f"{line}\n" for line in damaged))
        log(f"{len(damaged)} line(s) of {workdir / METRICS} cannot be read and are kept in {path.name}")
    write_atomic(workdir / METRICS, "".join(json.dumps(row) + "\n" for row in rows))


def damaged_metrics(workdir: Path) -> list[str]:
    """The lines of the metrics that cannot be read."""
    return [line for line in _metrics_lines(workdir) if _row(line) is None]


def _metrics_lines(workdir: Path) -> list[str]:
    path = workdir / METRICS
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip()] if path.exists() else []


def _row(line: str) -> dict[str, Any] | None:
    """A row of the metrics; None if it is damaged."""
    try:
        row = json.loads(line)
        is_whole = isinstance(row["epoch"], int) and isinstance(row.get("step", 0), int)
        return row if is_whole and all(x is None or isinstance(x, int | float) for x in row.values()) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _versions() -> dict[str, str]:
    names = ("cervix_jax", "jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def _revision() -> str | None:
    """Git's commit of this software, with '-dirty' if it was changed; None if it does not run from a clone."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # not that of a project that has this installed
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
