"""One page of an evaluation that needs no other file: metrics, figures, and the worst errors with what speaks for them.

Systems of an ensemble stand side by side. Pictures are embedded, so that the page can be sent; it holds photographs of
patients, where these are photographs of patients.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cervix_jax import html_page
from cervix_jax.explainers.methods import explain
from cervix_jax.images.decode import read_photograph
from cervix_jax.inference.clinical_metrics import detailed_metrics
from cervix_jax.inference.evaluation import Evaluation
from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.plots import explanation_panels
from cervix_jax.plots.evaluation_report import evaluation_figures
from cervix_jax.progress import log

NAME = "report.html"  # in a folder
SHOWN = 12  # worst errors
_METHOD = "grad_cam"
_SIDE = 200  # width of a picture in pixels
_DISCLAIMER = (
    "Research software, not for clinical decisions. Intervals (95 %) say how far another sample of such photographs "
    "would be, not another hospital or camera."
)
_EVIDENCE = (
    "On the right what speaks for the type that each is called, by Grad-CAM: what the network used, not where disease "
    "is."
)
_SCORES, _SETS = ("loss", "ece", "brier"), ("coverage", "mean_size", "singletons")
_MEANINGS = {
    "loss": "cross-entropy in nats; less is better",
    "ece": "expected calibration error; less is better",
    "brier": "Brier score; less is better",
    "kappa": "Cohen's kappa",
    "auroc": "mean over types of one against the rest",
    "aurc": "area under the risk-coverage curve; less is better",
    "unsafe_rate": "types 2 and 3 that are called type 1",
    "1_called_3": "type 1 that is called type 3",
    "3_called_1": "type 3 that is called type 1",
}
_ALTS = {
    "confusion_matrix": "Confusion matrix; the table of types says the same in numbers",
    "reliability": "Accuracy against confidence",
    "risk_coverage": "Error rate against the fraction of photographs that is decided, surest first",
    "predictions": "The first photographs of each type, with what they are called",
}
_HALF = ("confusion_matrix", "reliability", "risk_coverage")  # of the width of the page


def page_path(place: Path) -> Path:
    """Where the page is written: the file that is named, or `report.html` in a folder."""
    return place if place.suffix == ".html" else place / NAME


def write_evaluation_page(
    path: Path,
    predictor: Predictor,
    source: str,
    cases: LabelledPhotographs,
    evaluation: Evaluation,
    alone: Mapping[str, Float[np.ndarray, "n k"]],
    batch_size: int = 32,
) -> Path:
    """Writes the page.

    Args:
      path: of the page.
      predictor: that was evaluated.
      source: the split or folder.
      cases: the n photographs that it was evaluated on.
      evaluation: of the predictor on them.
      alone: of an ensemble, what each of its systems says.
      batch_size: photographs a step.
    """
    systems = {predictor.name: evaluation.metrics}
    for name, probabilities in alone.items():
        systems[name] = detailed_metrics(probabilities, cases.labels, predictor.class_names, cases.groups)
    sections = [
        html_page.paragraph(_DISCLAIMER),
        html_page.paragraph(_what(predictor, source, cases)),
        html_page.heading("Metrics"),
        _metrics(systems),
        html_page.heading("Types"),
        _types(systems),
        *_calibration(evaluation.metrics),
        *_figures(predictor, source, cases, evaluation, alone),
        *_worst_errors(predictor, cases, evaluation, batch_size),
        *_left_out(cases),
    ]
    return html_page.write_page(path, f"{predictor.name} on {source}", sections)


def _what(predictor: Predictor, source: str, cases: LabelledPhotographs) -> str:
    runs = [
        f"{member.workdir} (epoch {member.record['epoch']}, weights {member.weights})" for member in predictor.members
    ]
    together = f", an ensemble by {predictor.rule!r}" if len(runs) > 1 else ""
    by_fold = ", each judged by the runs that have not seen it" if cases.folds is not None else ""
    return f"{len(cases.ids)} photographs of {source}{by_fold}. Runs: {'; '.join(runs)}{together}."


def _metrics(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a metric, a column a system."""
    rows = []
    for name in next(iter(systems.values()))["intervals"]:
        cells = [_number(metrics[name], metrics["intervals"][name]) for metrics in systems.values()]
        rows.append((name, *cells, _MEANINGS.get(name, "")))
    return html_page.table(("metric", *systems, "meaning"), rows)


def _number(value: float | None, interval: Sequence[float | None]) -> str:
    if value is None:
        return "-"
    limits = f" ({interval[0]:.3f} to {interval[1]:.3f})" if None not in interval else ""
    return f"{value:.3f}{limits}".replace(" ", "\N{NO-BREAK SPACE}")


def _numbers(values: Mapping[str, float | None], names: Sequence[str]) -> list[str]:
    return [_number(values[name], (None, None)) for name in names]


def _types(systems: Mapping[str, Mapping[str, Any]]) -> str:
    """Of each system and true type, what it is called, precision and recall."""
    rows = []
    for system, metrics in systems.items():
        per_class = metrics["per_class"]
        for name, called in zip(per_class, metrics["confusion_matrix"], strict=True):
            rows.append((system, name, *called, *_numbers(per_class[name], ("precision", "recall"))))
    names = list(next(iter(systems.values()))["per_class"])
    return html_page.table(("system", "true type", *(f"called {name}" for name in names), "precision", "recall"), rows)


def _calibration(metrics: Mapping[str, Any]) -> list[str]:
    calibrated = metrics.get("calibrated")
    if calibrated is None:
        return []
    rows = [(when, *_numbers(calibrated[when], _SCORES)) for when in ("before", "after")]
    sets = [(coverage, *_numbers(each, _SETS)) for coverage, each in calibrated["sets"].items()]
    about = f"Temperature {calibrated['temperature']:.3f}, measured on {calibrated['num_examples']} photographs."
    return [
        html_page.heading("Calibration and prediction sets"),
        html_page.paragraph(about),
        html_page.table(("temperature", *_SCORES), rows),
        html_page.table(("coverage asked for", "reached", "mean number of types", "sets of one type"), sets),
    ]


def _figures(
    predictor: Predictor,
    source: str,
    cases: LabelledPhotographs,
    evaluation: Evaluation,
    alone: Mapping[str, Float[np.ndarray, "n k"]],
) -> list[str]:
    sections = [html_page.heading("Figures")]
    with tempfile.TemporaryDirectory() as folder:
        paths = evaluation_figures(Path(folder), predictor, source, cases, evaluation, alone)
        for name, path in paths.items():
            alt = _ALTS.get(name, "Loss and accuracy of training and validation by epoch")
            size: Literal["half", "whole"] = "half" if name in _HALF else "whole"
            sections.append(html_page.figure(html_page.png_source(path.read_bytes()), alt, [alt], size=size))
    return sections


def _worst_errors(
    predictor: Predictor, cases: LabelledPhotographs, evaluation: Evaluation, batch_size: int
) -> list[str]:
    """The photographs whose true type is given the least probability, beside what speaks for the called type."""
    probabilities, labels, names = evaluation.probabilities, cases.labels, predictor.class_names
    called, true = probabilities.argmax(axis=1), probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(called != labels)
    worst = wrong[np.argsort(true[wrong], kind="stable")][:SHOWN].tolist()
    heading = html_page.heading(f"Worst errors: {len(worst)} of {len(wrong)}")
    if not worst:
        return [heading, html_page.paragraph("No photograph is called another type than it is.")]
    log(f"explaining the {len(worst)} worst errors")
    pictures: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
    start = 0
    for judge, photographs in cases.parts(predictor.uncalibrated):
        rows = [i for i in worst if start <= i < start + len(photographs)]
        chosen = [photographs[i - start] for i in rows]
        explanations = explain(judge, chosen, [_METHOD], classes=called[rows], batch_size=batch_size) if rows else []
        for i, photograph, explanation in zip(rows, chosen, explanations, strict=True):
            pixels = np.asarray(read_photograph(photograph.jpeg))
            pictures[i] = _beside(pixels, explanation_panels.overlay(pixels, explanation.heat[_METHOD]))
        start += len(photographs)
    sections = [heading, html_page.paragraph(_EVIDENCE)]
    for i in worst:
        height, width, _ = pictures[i].shape
        source = html_page.jpeg_source(pictures[i], (width, height))
        chances = ", ".join(f"{name} {p:.0%}" for name, p in zip(names, probabilities[i], strict=True))
        caption = [cases.ids[i], f"true {names[labels[i]]}, called {names[called[i]]}", chances]
        sections.append(html_page.figure(source, f"{cases.ids[i]}, and its evidence for {names[called[i]]}", caption))
    return sections


def _beside(
    picture: UInt8[np.ndarray, "h w 3"], evidence: Float[np.ndarray, "h w 3"] | None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Photograph and evidence side by side, small; twice the photograph where nothing speaks for the type."""
    right = picture if evidence is None else np.round(255 * evidence).astype(np.uint8)
    size = (_SIDE, round(_SIDE * picture.shape[0] / picture.shape[1]))
    return np.concatenate([np.asarray(Image.fromarray(each).resize(size)) for each in (picture, right)], axis=1)


def _left_out(cases: LabelledPhotographs) -> list[str]:
    rows = [(row["image_name"], row["reason"]) for row in cases.skipped]
    rows += [(name, "a near-duplicate of a photograph that was trained or validated with") for name in cases.seen]
    return [html_page.heading("Left out"), html_page.table(("photograph", "reason"), rows)] if rows else []
