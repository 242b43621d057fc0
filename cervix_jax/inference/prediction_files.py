"""Probabilities and decisions for every photograph of a folder, as CSV files."""

import functools
import itertools
from pathlib import Path
from typing import Any

from cervix_jax.csv_files import csv_writer
from cervix_jax.datasets.cases import find_cases
from cervix_jax.inference.case_files import CASE_COLUMNS, write_cases
from cervix_jax.inference.decisions import NOT_ASSESSED, REFER, DecisionRule, Prediction, predict
from cervix_jax.inference.image_folder import photographs_in, read_all
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.outputs import OutputError, check_outputs, first_row
from cervix_jax.progress import log
from cervix_jax.runs import QUALITY_REFERENCE

DECISION_COLUMNS = ("image_name", "type", "set", "decision", "retake", "quality")
_TYPES = {*CLASS_NAMES, "rest"}
BOX_COLUMNS = ("left", "top", "right", "bottom", "confidence")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raises OutputError unless the path is that of a CSV file that may be written, and those beside it may be.

    Args:
      path: of the CSV file.
      overwrite: other files than predictions may be replaced.
    """
    if path.suffix != ".csv" or path.is_dir():
        raise OutputError(f"--output is {path}; it must be a file whose name ends in .csv")
    check_outputs([path], _holds_predictions, overwrite=overwrite)
    for suffix, columns in ((".decisions.csv", DECISION_COLUMNS), (".cases.csv", CASE_COLUMNS)):
        check_outputs([path.with_suffix(suffix)], functools.partial(_has_columns, columns), overwrite=overwrite)


def _holds_predictions(path: Path) -> bool:
    """Whether a CSV file has probabilities of types, or boxes that a localiser found; drawn ones have no confidence."""
    name, *columns = first_row(path) or [""]
    return name == "image_name" and (tuple(columns) == BOX_COLUMNS or (bool(columns) and set(columns) <= _TYPES))


def _has_columns(columns: tuple[str, ...], path: Path) -> bool:
    """Whether the columns of a CSV file are these, or begin with them."""
    return tuple(first_row(path)[: len(columns)]) == columns


def predict_folder(
    predictor: Predictor,
    folder: Path,
    output: Path,
    *,
    rule: DecisionRule | None = None,
    case_pattern: str | None = None,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Writes `image_name,Type_1,Type_2,Type_3`, a row a photograph; names are paths inside the folder.

    Beside it, as `NAME.decisions.csv`, what to do with each photograph that could be read: `type` that it is called,
    prediction `set`, `decision` (the type, or 'refer' where the set is not just that), `retake` (why the photograph
    should be taken again, '' if it is fit, 'not assessed' by a run that cannot tell) and `quality` (fraction of the
    training photographs as bad or worse); with a localiser also the box around the cervix, `left`, `top`, `right`,
    `bottom` as fractions of the photograph, and its `confidence`.

    Where the folder has `cases.csv`, or names have cases, `NAME.cases.csv` has a row for each, see `write_cases`.

    Args:
      predictor: one run or many.
      folder: searched with its subfolders; or a file.
      output: the CSV file.
      rule: how decisions are made; the likeliest type unless given.
      case_pattern: see `cases.cases_by_pattern`.
      batch_size: photographs held in memory at a time.

    Returns:
      `predicted`: number of photographs; `skipped`: names and reasons of files that could not be read; `output` and
      `decisions`: the files; `referred` and `retake`: how many; `temperature`; `rule`: see `DecisionRule.describe`;
      `familiarity`: whether unfamiliar photographs are among those to take again, 'assessed' or 'not assessed';
      `cases`: what `write_cases` returns, None without cases.

    Raises:
      CaseError: cases cannot be read.
      NoPhotographsError: there is nothing to predict.
    """
    folder, paths = photographs_in(folder)
    rule = rule or DecisionRule()
    cases = find_cases(folder, [path.relative_to(folder).as_posix() for path in paths], case_pattern)
    of_cases: dict[str, list[Prediction]] = {}
    if predictor.quality_reference is None:
        log(f"{predictor.name} has no {QUALITY_REFERENCE}: it cannot tell which photographs to take again")
    skipped: list[dict[str, str]] = []
    decisions = output.with_suffix(".decisions.csv")
    counts = {"predicted": 0, "referred": 0, "retake": 0}
    with csv_writer(output) as probability_rows, csv_writer(decisions) as decision_rows:
        probability_rows.writerow(["image_name", *predictor.class_names])
        box_columns = BOX_COLUMNS if predictor.network_inputs[0].localiser else ()
        decision_rows.writerow([*DECISION_COLUMNS, *box_columns])
        photographs = read_all(predictor, folder, paths, with_features=predictor.quality_reference is not None)
        while batch := list(itertools.islice(photographs, batch_size)):
            skipped += [{"image_name": name, "reason": reason} for name, reason in batch if isinstance(reason, str)]
            readable = {name: photograph for name, photograph in batch if isinstance(photograph, Photograph)}
            for p in predict(predictor, rule, list(readable), list(readable.values()), batch_size):
                probability_rows.writerow([p.name, *(f"{value:.8f}" for value in p.probabilities.values())])
                quality = "" if p.quality is None else f"{p.quality:.4f}"
                box = [f"{x:.4f}" for x in (*p.located.box, p.located.confidence)] if p.located else []
                decision_rows.writerow([p.name, p.type, " ".join(p.set), p.decision, p.retake, quality, *box])
                if cases:
                    of_cases.setdefault(cases.get(p.name, p.name), []).append(p)
                counts["predicted"] += 1
                counts["referred"] += p.decision == REFER
                counts["retake"] += bool(p.retake) and p.quality is not None
    return {
        "predicted": counts["predicted"],
        "skipped": skipped,
        "output": str(output),
        "decisions": str(decisions),
        "referred": counts["referred"],
        "retake": counts["retake"],
        "temperature": predictor.temperature,
        "rule": rule.describe(),
        "familiarity": "assessed" if predictor.embedding_references else NOT_ASSESSED,
        "cases": write_cases(output.with_suffix(".cases.csv"), predictor, of_cases, rule) if cases else None,
    }
