"""Explanations of every photograph of a folder, written as figures and contact sheets."""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervix_jax import html_page
from cervix_jax.errors import UserError
from cervix_jax.explainers.methods import METHODS, explain
from cervix_jax.images.decode import read_photograph
from cervix_jax.inference.image_folder import NoPhotographsError, photographs_in, read_all
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.outputs import OutputError, check_outputs, is_figure
from cervix_jax.plots import explanation_panels

SCORE_NAMES = {"type": "logit of the type", "margin": "log odds of the type against the others"}
HTML, SHEET = "explanations.html", "contact_sheet_"


class MethodError(UserError):
    """There is no such method or type; the message lists those there are."""


def explain_images(
    predictor: Predictor,
    images: Path,
    output: Path,
    *,
    methods: Sequence[str] = tuple(METHODS),
    target: str = "type",
    layer: str | None = None,
    type_name: str | None = None,
    form: str = "png",
    batch_size: int = 32,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes a figure for each photograph, and a contact sheet for each method.

    Args:
      predictor: one run or many.
      images: a photograph, or a folder that is searched with its subfolders; photographs in a folder named Type_1 to
        Type_3 are of that type.
      output: folder of the figures; those of subfolders lie in subfolders.
      methods: names in `METHODS`.
      target: 'type' or 'margin', see `PredictorScore`.
      layer: that Grad-CAM reads; the last feature map unless given.
      type_name: the type to explain; each photograph's likeliest unless given.
      form: 'png' and 'pdf' write a file a figure, 'html' one page that holds them all.
      batch_size: photographs a step.
      overwrite: files that are no figures may be replaced.

    Returns:
      `figures`: paths, contact sheets last; `explained`: how many photographs; `no_evidence`: names, methods and
      reasons of maps that show nothing; `skipped`: names and reasons of files that cannot be read.

    Raises:
      NoPhotographsError: there is nothing to explain.
      OutputError: figures would lie among the photographs, or replace what is no figure.
      MethodError: no such method or type.
      LayerError: no such layer.
    """
    methods = list(dict.fromkeys(methods))
    check_methods(predictor, methods, type_name, layer, target)
    folder, paths = photographs_in(images)
    _check_output(images, output)
    class_index = None if type_name is None else predictor.class_names.index(type_name)
    names = [path.relative_to(folder).as_posix() for path in paths]
    stems = dict(zip(names, _figure_stems(names), strict=True))
    suffix = "png" if form == "html" else form
    if form == "html":
        check_outputs([output / HTML], html_page.is_page, overwrite=overwrite)
    else:
        figure_names = [*stems.values(), *(f"{SHEET}{method}" for method in methods)]
        check_outputs([output / f"{name}.{suffix}" for name in figure_names], is_figure, overwrite=overwrite)
    skipped: list[dict[str, str]] = []
    no_evidence: list[dict[str, str]] = []
    groups: dict[str, explanation_panels.PhotographGroup] = {}
    figures: list[Path] = []
    batch_size = min(batch_size, len(paths))
    with tempfile.TemporaryDirectory() as temporary:
        figure_folder = Path(temporary) if form == "html" else output
        for batch in _batches(predictor, folder, paths, batch_size, skipped):
            classes = None if class_index is None else np.full(len(batch), class_index)
            explanations = explain(
                predictor,
                list(batch.values()),
                methods,
                target=target,
                layer=layer,
                classes=classes,
                batch_size=batch_size,
            )
            for (name, photograph), explanation in zip(batch.items(), explanations, strict=True):
                picture, true_type = np.asarray(read_photograph(photograph.jpeg)), _true_type(images, name)
                figures.append(figure_folder / f"{stems[name]}.{suffix}")
                explanation_panels.explanation_figure(
                    picture,
                    explanation,
                    predictor.class_names,
                    f"{name}, by {predictor.name}",
                    figures[-1],
                    score_name=SCORE_NAMES[target],
                    true_name=true_type,
                    located=[found for found in dict.fromkeys(photograph.located) if found],
                )
                called = predictor.class_names[int(np.argmax(explanation.probabilities))]
                group = f"true {true_type}, called {called}" if true_type else f"called {called}"
                groups.setdefault(group, explanation_panels.PhotographGroup()).add(
                    Path(name).name, picture, explanation
                )
                for method, heat in explanation.heat.items():
                    if reason := explanation_panels.no_evidence_reason(heat):
                        no_evidence.append({"image_name": name, "method": method, "reason": reason})
        if not figures:
            reasons = "; ".join(f"{entry['image_name']}: {entry['reason']}" for entry in skipped[:5])
            raise NoPhotographsError(f"{images}: no picture can be read ({reasons})")
        count = len(figures)
        for method in methods:
            figures.append(figure_folder / f"{SHEET}{method}.{suffix}")
            title = f"{METHODS[method].title} by {predictor.name}: evidence for the explained type"
            explanation_panels.contact_sheet(dict(sorted(groups.items())), method, title, figures[-1])
        if form == "html":
            sections = [_embedded(figure, figure_folder) for figure in figures]
            figures = [html_page.write_page(output / HTML, f"Explanations by {predictor.name}", sections)]
    written = [str(path) for path in figures]
    return {"figures": written, "explained": count, "no_evidence": no_evidence, "skipped": skipped}


def check_methods(
    predictor: Predictor, methods: Sequence[str], type_name: str | None, layer: str | None, target: str
) -> None:
    """Raises MethodError unless there are such methods, type and target, and one of the methods reads a layer."""
    if unknown := [name for name in methods if name not in METHODS]:
        raise MethodError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if not methods:
        raise MethodError(f"no method is named; there are {', '.join(METHODS)}")
    if type_name is not None and type_name not in predictor.class_names:
        raise MethodError(f"there is no type {type_name!r}; there are {', '.join(predictor.class_names)}")
    if target not in SCORE_NAMES:
        raise MethodError(f"there is no target {target!r}; there are {', '.join(SCORE_NAMES)}")
    if layer is not None and not any(METHODS[name].reads_layers for name in methods):
        readers = ", ".join(name for name, method in METHODS.items() if method.reads_layers)
        raise MethodError(f"a layer is read by {readers} alone, which is not among the methods")


def _batches(
    predictor: Predictor, folder: Path, paths: Sequence[Path], batch_size: int, skipped: list[dict[str, str]]
) -> Iterator[dict[str, Photograph]]:
    """Photographs by name, at most `batch_size` at a time; those that cannot be read are added to `skipped`."""
    photographs = read_all(predictor, folder, paths)
    while chunk := list(itertools.islice(photographs, batch_size)):
        skipped += [{"image_name": name, "reason": reason} for name, reason in chunk if isinstance(reason, str)]
        if batch := {name: photograph for name, photograph in chunk if isinstance(photograph, Photograph)}:
            yield batch


def _check_output(images: Path, output: Path) -> None:
    """Raises OutputError if figures would lie among photographs, whose names they have."""
    photographs, figures = images.resolve(), output.resolve()
    clash = figures == photographs.parent if images.is_file() else figures.is_relative_to(photographs)
    if clash:
        raise OutputError(f"--output is {output}, among the photographs of {images}; choose a folder outside")


def _true_type(images: Path, name: str) -> str | None:
    """The type that the nearest folder around a photograph is named after."""
    path = (images.parent if images.is_file() else images).absolute() / name
    return next((folder for folder in reversed(path.parts[:-1]) if folder in CLASS_NAMES), None)


def _figure_stems(names: Sequence[str]) -> list[str]:
    """Names of figures: without the suffix, unless two would be the same or one that of a contact sheet."""
    stems = [Path(name).with_suffix("").as_posix() for name in names]
    counts = Counter(stems)
    taken = {f"{SHEET}{method}" for method in METHODS}
    return [s if counts[s] == 1 and s not in taken else name for s, name in zip(stems, names, strict=True)]


def _embedded(figure: Path, folder: Path) -> str:
    """A figure of a page, under its name."""
    name = figure.relative_to(folder).with_suffix("").as_posix()
    return html_page.heading(name) + html_page.figure(html_page.png_source(figure.read_bytes()), name)
