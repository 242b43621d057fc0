"""One experiment from its runs to its table: `NAME.json`, `NAME.md` and figures in the work directory."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cervix_jax.atomic import write_atomic
from cervix_jax.errors import UserError
from cervix_jax.experiments import rendering, results
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.runner import Run, Settings, plan, run_all
from cervix_jax.runs import read_metrics, read_record


class ExperimentError(UserError):
    """A work directory has no table of an experiment, or every run of it failed."""


def run_experiment(name: str, workdir: Path, settings: Settings, seeds: int) -> dict[str, Any]:
    """Does the unfinished runs of an experiment, and writes its table after each.

    Args:
      name: in `EXPERIMENTS`.
      workdir: of all experiments, which share their runs.
      settings: of the runs.
      seeds: how many times each variant is trained.

    Returns:
      See `write_table`.

    Raises:
      ExperimentError: every run failed.
      Interrupted: by a signal.
      ConfigError, ManualDirError, DatasetError: something that every run needs is missing or does not fit.
    """
    table: dict[str, Any] = {}

    def report(runs: Sequence[Run]) -> None:
        table.update(write_table(name, workdir, runs))

    runs = run_all(plan(EXPERIMENTS[name].systems, settings, seeds), workdir, report)
    if all(run.reason for run in runs):
        raise ExperimentError(f"all {len(runs)} runs failed. {runs[0].system}: {runs[0].reason}")
    return table


def write_table(name: str, workdir: Path, runs: Sequence[Run] | None = None) -> dict[str, Any]:
    """Writes `NAME.json`, `NAME.md` and figures, from the work directory alone.

    Args:
      name: in `EXPERIMENTS`.
      workdir: of all experiments.
      runs: None for those of the table that is there.

    Returns:
      `experiment`; `rows`, see `results.table_rows`; `failed`: number of runs; `files`.

    Raises:
      ExperimentError: there is no table to take the runs from.
    """
    path = workdir / f"{name}.json"
    if runs is None:
        if not path.exists():
            raise ExperimentError(f"{workdir} has no table of {name}: {path.name} is missing")
        runs = [Run(**entry) for entry in json.loads(path.read_text())["runs"]]
    experiment = EXPERIMENTS[name]
    rows = results.table_rows(experiment, runs, workdir)
    figures = rendering.figures(name, experiment, rows, workdir)
    page = workdir / f"{name}.md"
    write_atomic(page, rendering.markdown(experiment, rows, conditions(runs, workdir)))
    table = {"experiment": name, "rows": rows, "failed": sum(run.reason is not None for run in runs)}
    record = table | {"runs": [dataclasses.asdict(run) for run in runs]}
    write_atomic(path, json.dumps(record, indent=2) + "\n")
    return table | {"files": [str(file) for file in (page, path, *figures)]}


def conditions(runs: Sequence[Run], workdir: Path) -> str:
    """How the runs were made, from their records: data set, image size, epochs, batch size, versions."""
    finished = [run for run in runs if run.reason is None and read_metrics(workdir / run.folder)]
    if not finished:
        return "No run has finished yet."
    records = [read_record(workdir / run.folder) for run in finished]
    configs = [record["config"] for record in records]

    def distinct(values: Sequence[Any]) -> str:
        return " or ".join(str(value) for value, _ in Counter(values).most_common())

    names = distinct([config["dataset"]["name"] for config in configs])
    sizes = distinct([" x ".join(map(str, config["dataset"]["image_size"])) for config in configs])
    epochs = distinct([len(read_metrics(workdir / run.folder)) for run in finished if run.variant.kind == "network"])
    batch_sizes = distinct([config["batch_size"] for config in configs])
    seeds = len({run.seed for run in runs})
    decays = {config["optimizer"]["ema_decay"] for config in configs} - {0.0}
    average = f" Weights are moving averages (decay {distinct(list(decays))})." if decays else ""
    jax_versions = distinct([record["versions"]["jax"] for record in records])
    revisions = distinct([_short_revision(record.get("revision")) for record in records])
    return (
        f"{names}, {sizes} pixels, {epochs or 0} epochs, batch {batch_sizes}, {seeds} seed(s).{average} "
        f"JAX {jax_versions}, revision {revisions}."
    )


def _short_revision(revision: str | None) -> str:
    commit, *dirty = (revision or "unknown").split("-")
    return "-".join([commit[:12], *dirty])
