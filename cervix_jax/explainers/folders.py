"""Explanations of every photograph of a folder, written as figures and contact sheets."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervix_jax.data.photographs import CLASS_NAMES, SUFFIXES, read_photograph
from cervix_jax.errors import UserError
from cervix_jax.explainers import panels
from cervix_jax.explainers.explaining import METHODS, Explanation, explain
from cervix_jax.inference.predictor import Photograph, Predictor
from cervix_jax.inference.reading import NoPhotographsError, photographs_in, read_all

SCORE_NAMES = {"type": "logit of the type", "margin": "log odds of the type against the others"}
HTML = "explanations.html"


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
      `figures`: paths, contact sheets last; `explained`: how many photographs; `no_evidence`: names and methods of maps
      that are zero; `skipped`: names and reasons of files that cannot be read.

    Raises:
      NoPhotographsError: there is nothing to explain.
      MethodError: no such method or type.
      LayerError: no such layer.
    """
    _check(predictor, methods, type_name)
    photographs, names, skipped = _read(predictor, images)
    classes = None
    if type_name is not None:
        classes = np.full(len(photographs), predictor.class_names.index(type_name))
    found = explain(predictor, photographs, methods, target=target, layer=layer, classes=classes, batch_size=batch_size)
    pictures = [np.asarray(read_photograph(photograph.jpeg)) for photograph in photographs]
    truths = [_true_type(images, name) for name in names]
    suffix = "png" if form == "html" else form
    paths = []
    for name, stem, picture, explanation, truth in zip(names, _stems(names), pictures, found, truths, strict=True):
        paths.append(output / f"{stem}.{suffix}")
        panels.explanation(
            picture,
            explanation,
            predictor.class_names,
            f"{name}, by {predictor.name}",
            paths[-1],
            score_name=SCORE_NAMES[target],
            true_name=truth,
        )
    groups = _groups(found, truths, predictor.class_names)
    for method in methods:
        paths.append(output / f"contact_sheet_{method}.{suffix}")
        title = f"{METHODS[method].title} by {predictor.name}: evidence for the explained type"
        panels.contact_sheet(pictures, found, groups, [Path(name).name for name in names], method, title, paths[-1])
    if form == "html":
        paths = [_page(output / HTML, paths, f"Explanations by {predictor.name}", output)]
    zero = [
        {"image_name": name, "method": method}
        for name, explanation in zip(names, found, strict=True)
        for method, heat in explanation.heat.items()
        if panels.relative(heat) is None
    ]
    return {
        "figures": [str(path) for path in paths],
        "explained": len(photographs),
        "no_evidence": zero,
        "skipped": skipped,
    }


def _check(predictor: Predictor, methods: Sequence[str], type_name: str | None) -> None:
    if unknown := [name for name in methods if name not in METHODS]:
        raise MethodError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if not methods:
        raise MethodError(f"no method is named; there are {', '.join(METHODS)}")
    if type_name is not None and type_name not in predictor.class_names:
        raise MethodError(f"there is no type {type_name!r}; there are {', '.join(predictor.class_names)}")


def _read(predictor: Predictor, images: Path) -> tuple[list[Photograph], list[str], list[dict[str, str]]]:
    if images.is_file() and images.suffix.lower() not in SUFFIXES:
        raise NoPhotographsError(f"{images} is not named like a picture ({', '.join(sorted(SUFFIXES))})")
    folder, paths = (images.parent, [images]) if images.is_file() else (images, photographs_in(images))
    photographs, names, skipped = [], [], []
    for name, photograph in read_all(predictor, folder, paths):
        if isinstance(photograph, str):
            skipped.append({"image_name": name, "reason": photograph})
        else:
            photographs.append(photograph)
            names.append(name)
    if not photographs:
        reasons = "; ".join(f"{entry['image_name']}: {entry['reason']}" for entry in skipped[:5])
        raise NoPhotographsError(f"{images}: no picture can be read ({reasons})")
    return photographs, names, skipped


def _true_type(images: Path, name: str) -> str | None:
    """The type that the nearest folder around a photograph is named after."""
    path = (images.parent if images.is_file() else images).absolute() / name
    return next((part for part in reversed(path.parts[:-1]) if part in CLASS_NAMES), None)


def _stems(names: Sequence[str]) -> list[str]:
    """Names of figures: without the suffix, unless two would be the same."""
    stems = [str(Path(name).with_suffix("")) for name in names]
    return [stem if stems.count(stem) == 1 else name for stem, name in zip(stems, names, strict=True)]


def _groups(
    found: Sequence[Explanation], truths: Sequence[str | None], class_names: Sequence[str]
) -> dict[str, list[int]]:
    """Photographs by true and predicted type."""
    groups: dict[str, list[int]] = {}
    for i, (explanation, truth) in enumerate(zip(found, truths, strict=True)):
        called = class_names[int(explanation.probabilities.argmax())]
        groups.setdefault(f"true {truth}, called {called}" if truth else f"called {called}", []).append(i)
    return dict(sorted(groups.items()))


def _page(path: Path, figures: Sequence[Path], title: str, folder: Path) -> Path:
    """One page that holds the figures itself, so that it can be sent; the files are removed."""
    parts = []
    for figure in figures:
        name = html.escape(figure.relative_to(folder).with_suffix("").as_posix())
        data = f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}"
        parts.append(f'<figure><figcaption>{name}</figcaption><img alt="{name}" src="{data}"></figure>')
        figure.unlink()
    style = "body{font-family:sans-serif;margin:2em}img{max-width:100%}figcaption{font-weight:bold}"
    path.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style>\n<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</html>\n"
    )
    return path
