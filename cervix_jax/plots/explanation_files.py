"""Explanations of every photograph of a folder, written as figures and contact sheets."""

import base64
import html
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervix_jax.errors import UserError
from cervix_jax.explainers.methods import METHODS, explain
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import SUFFIXES
from cervix_jax.inference.image_folder import NoPhotographsError, photographs_in, read_all
from cervix_jax.inference.predictor import Photograph, Predictor
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.plots import explanation_panels

SCORE_NAMES = {"type": "logit of the type", "margin": "log odds of the type against the others"}
HTML, SHEET = "explanations.html", "contact_sheet_"


class OutputError(UserError):
    """Figures cannot be written where they are wanted."""


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
) -> dict[str, Any]:
    """Writes a figure for each photograph, and a contact sheet for each method.

    Args:
      predictor: one run or many.
      images: a photograph, or a folder that is searched with its subfolders; a folder named Type_1 to Type_3 tells the
        true type of what lies in it.
      output: folder of the figures; those of subfolders lie in subfolders.
      methods: names in `METHODS`.
      target: 'type' or 'margin', see `scores.PredictorScore`.
      layer: that Grad-CAM reads; the last feature map unless given.
      type_name: the type to explain; each photograph's likeliest unless given.
      form: 'png' and 'pdf' write a file a figure, 'html' one page that holds them all.
      batch_size: photographs a step.

    Returns:
      `figures`: paths, contact sheets last; `explained`: how many photographs; `no_evidence`: names, methods and
      reasons of maps that are no picture; `skipped`: names and reasons of files that cannot be read.

    Raises:
      NoPhotographsError: there is nothing to explain.
      OutputError: figures would lie among the photographs.
      MethodError: no such method or type.
      LayerError: no such layer.
    """
    methods = list(dict.fromkeys(methods))
    _check(predictor, methods, type_name, layer)
    folder, paths = _photographs(images)
    _check_output(images, output)
    explained = None if type_name is None else predictor.class_names.index(type_name)
    names = [path.relative_to(folder).as_posix() for path in paths]
    stems = dict(zip(names, _stems(names), strict=True))
    suffix = "png" if form == "html" else form
    skipped: list[dict[str, str]] = []
    lacking: list[dict[str, str]] = []
    groups: dict[str, explanation_panels.Group] = {}
    figures: list[Path] = []
    size = min(batch_size, len(paths))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) if form == "html" else output
        for batch in _batches(predictor, folder, paths, size, skipped):
            classes = None if explained is None else np.full(len(batch), explained)
            read = list(batch.values())
            explanations = explain(
                predictor, read, methods, target=target, layer=layer, classes=classes, batch_size=size
            )
            for (name, photograph), found in zip(batch.items(), explanations, strict=True):
                picture, truth = np.asarray(read_photograph(photograph.jpeg)), _true_type(images, name)
                figures.append(place / f"{stems[name]}.{suffix}")
                explanation_panels.explanation(
                    picture,
                    found,
                    predictor.class_names,
                    f"{name}, by {predictor.name}",
                    figures[-1],
                    score_name=SCORE_NAMES[target],
                    true_name=truth,
                )
                called = predictor.class_names[int(found.probabilities.argmax())]
                group = f"true {truth}, called {called}" if truth else f"called {called}"
                groups.setdefault(group, explanation_panels.Group()).add(Path(name).name, picture, found)
                why = {method: explanation_panels.lack(heat) for method, heat in found.heat.items()}
                lacking += [{"image_name": name, "method": m, "reason": reason} for m, reason in why.items() if reason]
        if not figures:
            reasons = "; ".join(f"{entry['image_name']}: {entry['reason']}" for entry in skipped[:5])
            raise NoPhotographsError(f"{images}: no picture can be read ({reasons})")
        count = len(figures)
        for method in methods:
            figures.append(place / f"{SHEET}{method}.{suffix}")
            title = f"{METHODS[method].title} by {predictor.name}: evidence for the explained type"
            explanation_panels.contact_sheet(dict(sorted(groups.items())), method, title, figures[-1])
        if form == "html":
            figures = [_page(output / HTML, figures, f"Explanations by {predictor.name}", place)]
    written = [str(path) for path in figures]
    return {"figures": written, "explained": count, "no_evidence": lacking, "skipped": skipped}


def _batches(
    predictor: Predictor, folder: Path, paths: Sequence[Path], size: int, skipped: list[dict[str, str]]
) -> Iterator[dict[str, Photograph]]:
    """Photographs by name, at most `size` at a time; those that cannot be read are added to `skipped`."""
    found = read_all(predictor, folder, paths)
    while part := list(itertools.islice(found, size)):
        skipped += [{"image_name": name, "reason": why} for name, why in part if isinstance(why, str)]
        if batch := {name: photograph for name, photograph in part if isinstance(photograph, Photograph)}:
            yield batch


def _check(predictor: Predictor, methods: Sequence[str], type_name: str | None, layer: str | None) -> None:
    if unknown := [name for name in methods if name not in METHODS]:
        raise MethodError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if not methods:
        raise MethodError(f"no method is named; there are {', '.join(METHODS)}")
    if type_name is not None and type_name not in predictor.class_names:
        raise MethodError(f"there is no type {type_name!r}; there are {', '.join(predictor.class_names)}")
    if layer is not None and "grad_cam" not in methods:
        raise MethodError("a layer is read by grad_cam alone, which is not among the methods")


def _photographs(images: Path) -> tuple[Path, list[Path]]:
    """The folder and the photographs in it."""
    if not images.is_file():
        return images, photographs_in(images)
    if images.suffix.lower() not in SUFFIXES:
        raise NoPhotographsError(f"{images} is not named like a picture ({', '.join(sorted(SUFFIXES))})")
    return images.parent, [images]


def _check_output(images: Path, output: Path) -> None:
    """Raises OutputError if figures would lie among photographs, whose names they have."""
    photographs, figures = images.resolve(), output.resolve()
    clash = figures == photographs.parent if images.is_file() else figures.is_relative_to(photographs)
    if clash:
        raise OutputError(f"--output is {output}, among the photographs of {images}; choose a folder outside")


def _true_type(images: Path, name: str) -> str | None:
    """The type that the nearest folder around a photograph is named after."""
    path = (images.parent if images.is_file() else images).absolute() / name
    return next((part for part in reversed(path.parts[:-1]) if part in CLASS_NAMES), None)


def _stems(names: Sequence[str]) -> list[str]:
    """Names of figures: without the suffix, unless two would be the same or one that of a contact sheet."""
    stems = [Path(name).with_suffix("").as_posix() for name in names]
    counts = Counter(stems)
    taken = {f"{SHEET}{method}" for method in METHODS}
    return [s if counts[s] == 1 and s not in taken else name for s, name in zip(stems, names, strict=True)]


def _page(path: Path, figures: Sequence[Path], title: str, folder: Path) -> Path:
    """One page that holds the figures itself, so that it can be sent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for figure in figures:
        name = html.escape(figure.relative_to(folder).with_suffix("").as_posix())
        data = f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}"
        parts.append(f'<figure><figcaption>{name}</figcaption><img alt="{name}" src="{data}"></figure>')
    style = "body{font-family:sans-serif;margin:2em}img{max-width:100%}figcaption{font-weight:bold}"
    path.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style>\n<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</html>\n"
    )
    return path
