"""One experiment from start to table, and what all of them would cost."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cervix_jax import runs
from cervix_jax.errors import UserError
from cervix_jax.experiments import rendering, results
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.runner import Run, Settings, plan, run_all
from cervix_jax.experiments.variants import VARIANTS
from cervix_jax.progress import log


class ExperimentError(UserError):
    """A work directory holds nothing of an experiment, or nothing of it could be done."""


def reproduce(name: str, workdir: Path, settings: Settings, seeds: int) -> dict[str, Any]:
    """Does the runs of an experiment that are not done, and writes its table after each.

    Args:
      name: in `EXPERIMENTS`.
      workdir: of all experiments; runs are shared between them.
      settings: of the runs.
      seeds: how many times each system is trained.

    Returns:
      See `tabulate`.

    Raises:
      ExperimentError: every run failed.
      Interrupted, and what `run_all` raises.
    """
    planned = plan(EXPERIMENTS[name].systems, settings, seeds)
    found: dict[str, Any] = {}

    def report(done: Sequence[Run]) -> None:
        nonlocal found
        found = tabulate(name, workdir, done)

    done = run_all(planned, workdir, report)
    if all(run.reason for run in done):
        raise ExperimentError(f"none of the {len(done)} runs could be done. {done[0].system}: {done[0].reason}")
    return found


def tabulate(name: str, workdir: Path, done: Sequence[Run] | None = None) -> dict[str, Any]:
    """Writes `NAME.json`, `NAME.md` and pictures from the work directory alone.

    Args:
      name: in `EXPERIMENTS`.
      workdir: of all experiments.
      done: the runs; those that the last call was given, if not given.

    Returns:
      `experiment`; `rows`, see `results.rows`; `failed`: how many runs; `files`.

    Raises:
      ExperimentError: no runs are given, and the work directory has no table of this experiment.
    """
    path = workdir / f"{name}.json"
    if done is None:
        if not path.exists():
            raise ExperimentError(f"{workdir} has no table of {name}: {path.name} is missing")
        done = [Run(**entry) for entry in json.loads(path.read_text())["runs"]]
    experiment = EXPERIMENTS[name]
    lines = results.rows(experiment, done, workdir)
    pictures = rendering.figures(name, experiment, lines, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    page = workdir / f"{name}.md"
    page.write_text(rendering.markdown(experiment, lines, conditions(done, workdir)))
    found = {"experiment": name, "rows": lines, "failed": sum(run.reason is not None for run in done)}
    record = {**found, "runs": [dataclasses.asdict(run) for run in done]}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(path)
    return {**found, "files": [str(file) for file in (page, path, *pictures)]}


def conditions(done: Sequence[Run], workdir: Path) -> str:
    """How the runs were made, by their own records: data, size, epochs, batch, software."""
    finished = [run for run in done if run.reason is None and runs.read_metrics(workdir / run.folder)]
    if not finished:
        return "Nothing has been run yet."
    records = [runs.read_record(workdir / run.folder) for run in finished]
    configs = [record["config"] for record in records]

    def common(values: Sequence[Any]) -> str:
        return " or ".join(str(value) for value, _ in Counter(values).most_common())

    sizes = common([" x ".join(map(str, config["dataset"]["image_size"])) for config in configs])
    trained = [r for r in finished if VARIANTS[r.system].kind == "network"]
    epochs = common([len(runs.read_metrics(workdir / run.folder)) for run in trained])
    averaged = {config["optimizer"]["ema_decay"] for config in configs} - {0.0}
    average = f" Weights are moving averages (decay {common(list(averaged))})." if averaged else ""
    return (
        f"{common([config['dataset']['name'] for config in configs])}, {sizes} pixels, {epochs or 0} epochs, batch "
        f"{common([config['batch_size'] for config in configs])}, {len({run.seed for run in done})} seed(s).{average} "
        f"JAX {common([record['versions']['jax'] for record in records])}, "
        f"revision {common([_short(record.get('revision')) for record in records])}."
    )


def _short(revision: str | None) -> str:
    commit, *dirty = (revision or "unknown").split("-")
    return "-".join([commit[:12], *dirty])


def costs(settings: Settings, seeds: int, images: int, images_per_second: float) -> list[dict[str, Any]]:
    """What each experiment would cost, if none of its runs were done.

    Args:
      settings: of the runs.
      seeds: how many times each system is trained.
      images: training photographs.
      images_per_second: of the report's system in training at 320 x 240.
    """
    config = settings.resolve(VARIANTS["report"], 0)
    height, width = config.dataset.image_size
    per_epoch = images / images_per_second * (height * width) / (320 * 240)
    found = []
    for name, experiment in EXPERIMENTS.items():
        systems = [VARIANTS[name] for name in experiment.systems]
        passes = sum(s.cost * (config.epochs if s.kind == "network" else 1) for s in systems)
        found.append(
            {
                "experiment": name,
                "section": experiment.section,
                "title": experiment.title,
                "systems": list(experiment.systems),
                "runs": seeds * len(experiment.systems),
                "hours": round(seeds * passes * per_epoch / 3600, 2),
            }
        )
    return found


def show_costs(found: Sequence[dict[str, Any]]) -> None:
    """The same as lines to read, on standard error."""
    for row in found:
        size = f"{row['runs']:3} runs {row['hours']:6.2f} h"
        log(f"{row['experiment']:15} section {row['section']:7} {size}  {row['title']}")
        log(f"{'':15} {', '.join(row['systems'])}")
