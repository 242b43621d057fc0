"""Experiments from runs to pages: `NAME.json`, `NAME.md` and figures of one, `RESULTS.md` of all, from small files."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cervix_jax import config as options
from cervix_jax.atomic import write_atomic
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.errors import UserError
from cervix_jax.experiments import rendering, table_figures
from cervix_jax.experiments.report_tables import EXPERIMENTS, Experiment
from cervix_jax.experiments.results import Results, conclusions, table_rows
from cervix_jax.experiments.runner import CROPPED, Run, Settings, is_finished, plan, run_all
from cervix_jax.experiments.system_results import FOLDER, SystemResult, common_ids

BASE_SYSTEMS = ("initial", "report")  # whose learning curves are shown


class ExperimentError(UserError):
    """There is nothing to make a table of, or every run of an experiment failed."""


def run_experiment(
    name: str, workdir: Path, settings: Settings, seeds: int = 1, folds: Sequence[int] = (4,)
) -> dict[str, Any]:
    """Does the unfinished runs of an experiment, keeps their results after each, and writes its table.

    Args:
      name: in `EXPERIMENTS`.
      workdir: of all experiments, which share their runs.
      settings: of the runs.
      seeds: how many times each variant is trained on each fold.
      folds: that are held out in turn.

    Returns:
      See `write_table`.

    Raises:
      ExperimentError: every run failed.
      Interrupted: by a signal.
      ConfigError, ManualDirError, DatasetError: something that every run needs is missing or does not fit.
    """
    number = settings.config.selection.folds
    kept = [seed for result in read_results(workdir, name).values() for seed in result.tables]
    every = plan(EXPERIMENTS[name].systems, settings, max([seeds, *(seed + 1 for seed in kept)]), range(number))
    dataset = load_dataset(options.validate(every[0][1]))

    def keep(ended: Run, runs: Sequence[Run]) -> None:
        """Keeps the results of a system, the runs of folds and seeds that other calls have done included."""
        failed = [run for run in runs if run.system == ended.system and run.reason]
        planned = [(run, config) for run, config in every if run.system == ended.system]
        finished = [run for run, config in planned if is_finished(workdir, run, config, dataset.fingerprint)]
        SystemResult.collect(ended.system, [*finished, *failed], workdir).write(workdir / FOLDER)

    chosen = [planned for planned in every if planned[0].fold in folds and planned[0].seed < seeds]
    runs = run_all(chosen, dataset, workdir, keep)
    table = write_table(name, workdir)
    if all(run.reason for run in runs):
        raise ExperimentError(f"all {len(runs)} runs failed. {runs[0].system}: {runs[0].reason}")
    return table


def read_results(workdir: Path, name: str) -> Results:
    """What is kept of the systems of an experiment, by name."""
    systems = [system + suffix for system in EXPERIMENTS[name].systems for suffix in ("", CROPPED)]
    found = {system: SystemResult.read(workdir / FOLDER, system) for system in systems}
    return {system: result for system, result in found.items() if result is not None}


def write_table(name: str, workdir: Path) -> dict[str, Any]:
    """Writes `NAME.json`, `NAME.md` and figures, from what is kept of the systems.

    Args:
      name: in `EXPERIMENTS`.
      workdir: of all experiments.

    Returns:
      `experiment`; `rows`, see `results.table_rows`; `conclusions`, see `results.conclusions`; `files`.

    Raises:
      ExperimentError: nothing is kept.
    """
    results = read_results(workdir, name)
    if not results:
        raise ExperimentError(f"{workdir / FOLDER} has no results of {name}; run the experiment first")
    table = make_table(name, results)
    paths = table_figures.draw_table(name, EXPERIMENTS[name], table["rows"], workdir)
    page = workdir / f"{name}.md"
    write_atomic(page, "#" + _section(table, results).removeprefix("##"))
    write_atomic(workdir / f"{name}.json", json.dumps(table, indent=2) + "\n")
    return table | {"files": [str(file) for file in (page, workdir / f"{name}.json", *paths)]}


def make_table(name: str, results: Results) -> dict[str, Any]:
    """`experiment`; `rows`, see `results.table_rows`; `conclusions`, see `results.conclusions`; of what is kept."""
    experiment = EXPERIMENTS[name]
    return {
        "experiment": name,
        "rows": table_rows(experiment, results),
        "conclusions": conclusions(experiment, results),
    }


def write_results_page(workdir: Path) -> dict[str, Any]:
    """Writes `RESULTS.md`: which conclusions of the report hold, one picture of all comparisons, and all tables.

    Returns:
      `conclusions`: number of each verdict; `missing`: systems of which nothing is kept; `files`.

    Raises:
      ExperimentError: nothing is kept.
    """
    results = {name: read_results(workdir, name) for name in EXPERIMENTS}
    tables = {name: make_table(name, results[name]) for name in EXPERIMENTS}
    run = [name for name, table in tables.items() if _has_comparison(EXPERIMENTS[name], table["rows"])]
    if not run:
        raise ExperimentError(f"{workdir / FOLDER} has no results that can be compared; run experiments first")
    missing = sorted({system for name in EXPERIMENTS for system in EXPERIMENTS[name].systems} - _kept(results.values()))
    verdicts = [(name, c) for name, table in tables.items() for c in table["conclusions"]]
    counts = Counter(conclusion["verdict"] for _, conclusion in verdicts)
    folder = workdir / "results"
    paths = [folder / "report_tables.png"]
    table_figures.forest({name: tables[name]["rows"] for name in run}, paths[0])
    bases = [result for system in BASE_SYSTEMS if (result := SystemResult.read(workdir / FOLDER, system)) is not None]
    for base in bases:
        paths.append(folder / f"curves_{base.system}.png")
        table_figures.learning_curves(base, paths[-1])
    text = ["# The report's experiments", "", _INTRODUCTION, "", _counted(counts), ""]
    text += ["| section | the report concludes | loss, difference (95 %) | here |", "| --- | --- | --- | --- |"]
    for name, c in verdicts:
        section, compared = EXPERIMENTS[name].section, rendering.format_difference(c["difference"])
        text.append(f"| {section} | {c['claim']} | {compared} | **{c['verdict']}** |")
    text += ["", f"![Every comparison of the report, published and measured]({paths[0].relative_to(workdir)})", ""]
    text += [f"![Learning curves]({path.relative_to(workdir)})" for path in paths[1:]]
    text += ["", *(_section(tables[name], results[name]) for name in run)]
    if missing:
        text.append(f"Not run yet: {', '.join(missing)}.\n")
    page = workdir / "RESULTS.md"
    write_atomic(page, "\n".join(text))
    return {"conclusions": dict(counts), "missing": missing, "files": [str(path) for path in (page, *paths)]}


def conditions(results: Iterable[SystemResult]) -> str:
    """How the runs were made: data set, image size, epochs, folds, batch size, versions."""
    finished = [result for result in results if result.runs]
    if not finished:
        return "No run has finished yet."

    def distinct(values: Iterable[Any]) -> str:
        return " or ".join(str(value) for value, _ in Counter(values).most_common())

    def of(name: str) -> list[Any]:
        return [result.conditions[name] for result in finished]

    sizes = distinct(" x ".join(map(str, size)) for size in of("image_size"))
    trained = [result for result in finished if max(len(run.curve) for run in result.runs) > 1]
    epochs = distinct(len(run.curve) for result in trained or finished for run in result.runs)
    folds = distinct(len({run.fold for run in result.runs}) for result in finished)
    seeds = distinct(len(result.tables) for result in finished)
    photographs = distinct(f"{len(common_ids(list(result.tables.values()))):,}" for result in finished)
    decays = set(of("ema_decay")) - {0.0}
    average = f" Weights are moving averages (decay {distinct(decays)})." if decays else ""
    return (
        f"{distinct(of('dataset'))}, {sizes} pixels, batch {distinct(of('batch_size'))}, epochs: {epochs}, "
        f"folds: {folds}, seeds: {seeds}; {photographs} photographs, each by a run that has not seen it.{average} "
        f"JAX {distinct(of('jax'))}, revision {distinct(of('revision'))}."
    )


_INTRODUCTION = (
    "Written by `python -m cervix_jax.reproduce --table` from `results/report_tables`, which needs no photograph. Each "
    "system is trained once a fold; differences are paired, on the same photographs, with 95 % intervals by bootstrap "
    "over photographs, near-duplicates together. They tell what other photographs would change, not what training once "
    "more would. A conclusion *holds* or *does not hold* where the interval lies on one side of 0 (that two losses are "
    "alike: inside or outside of the margin that it names); otherwise it *cannot be told*. Losses are those of each "
    "run's best epoch: a little optimistic, most so for what overfits early, not at all for guesses and regressions."
)


def _section(table: Mapping[str, Any], results: Results) -> str:
    experiment = EXPERIMENTS[table["experiment"]]
    return rendering.markdown(experiment, table["rows"], table["conclusions"], conditions(results.values()))


def _has_comparison(experiment: Experiment, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the base of a table and another row were run."""
    titles = {row["title"] for row in rows if row["measured"]}
    return experiment.base in titles and len(titles) > 1


def _kept(results: Iterable[Results]) -> set[str]:
    return {system for by_system in results for system, result in by_system.items() if result.runs or result.reason}


def _counted(counts: Counter[str]) -> str:
    verdicts = ("holds", "does not hold", "cannot be told", "not run")
    return f"{counts.total()} conclusions: " + ", ".join(f"{verdict} {counts[verdict]}" for verdict in verdicts) + "."
