"""What panels and contact sheets show, and that no evidence is never shown as evidence."""

import numpy as np
import pytest

from cervix_jax.explainers.methods import Explanation
from cervix_jax.images.boxes import LocatedBox, draw_boxes
from cervix_jax.plots import explanation_panels

ZERO = np.zeros((8, 6), np.float32)
RAMP = np.linspace(0, 2, 48, dtype=np.float32).reshape(8, 6)
GREY = np.full((8, 6, 3), 100, np.uint8)


@pytest.mark.parametrize("heat", [ZERO, ZERO * np.nan, ZERO + np.inf], ids=["zero", "nan", "inf"])
def test_no_evidence_is_never_a_picture(heat, tmp_path, monkeypatch) -> None:
    assert explanation_panels.normalise(heat) is None
    assert explanation_panels.overlay(GREY, heat) is None
    figures = []
    monkeypatch.setattr(explanation_panels, "save", lambda figure, title, path: figures.append(figure))
    found = Explanation(0, np.array([0.5, 0.3, 0.2]), {"grad_cam": heat, "saliency": RAMP})
    names = ("Type_1", "Type_2", "Type_3")
    explanation_panels.explanation_figure(GREY, found, names, "title", tmp_path / "x.png", score_name="logit")
    group = explanation_panels.PhotographGroup()
    group.add("x", GREY, found)
    explanation_panels.contact_sheet({"all": group}, "grad_cam", "title", tmp_path / "y.png")
    titles = [axes.get_title() for figure in figures for axes in figure.axes]
    why = "no evidence" if np.isfinite(heat).all() else "not finite"
    assert f"Grad-CAM: {why}" in titles
    assert "Saliency" in titles
    assert f"all (1)\nx: {why}" in titles


def test_a_sheet_has_few_empty_places_and_names_every_group(tmp_path, monkeypatch) -> None:
    figures = []
    monkeypatch.setattr(explanation_panels, "save", lambda figure, title, path: figures.append(figure))
    found = Explanation(0, np.array([0.5, 0.3, 0.2]), {"saliency": RAMP})
    groups = {f"true Type_{i}, called Type_{j}": explanation_panels.PhotographGroup() for i in "123" for j in "123"}
    for count, group in enumerate(groups.values(), start=1):
        for number in range(count):
            group.add(f"{number}.jpg", GREY, found)
    explanation_panels.contact_sheet(groups, "saliency", "title", tmp_path / "y.png")
    *axes, _ = figures[0].axes  # the last is the colour bar
    shown = [each for each in axes if each.images]
    assert len(shown) == sum(min(count, 6) for count in range(1, 10))
    assert len(axes) - len(shown) < 6
    assert shown[0].get_title() == "true Type 1, called Type 1 (1)\n0.jpg"
    assert shown[-1].get_title() == "true Type 3, called Type 3 (9)\n5.jpg"


def test_more_evidence_is_brighter_in_grey_too() -> None:
    shown = explanation_panels.overlay(GREY * 0 + 255, RAMP)
    assert explanation_panels.normalise(RAMP).max() == 1
    strong, weak = shown[-1, -1], explanation_panels.overlay(GREY * 0, RAMP)[0, 0]
    assert (shown >= 0).all()
    assert (shown <= 1).all()
    brightness = explanation_panels.overlay(GREY * 0, RAMP) @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness.ravel()) > -1e-3).all()
    assert strong.sum() > weak.sum()


def test_a_figure_names_photograph_run_type_score_and_methods(tmp_path, monkeypatch) -> None:
    figures = []
    monkeypatch.setattr(explanation_panels, "save", lambda figure, title, path: figures.append((figure, title)))
    found = Explanation(1, np.array([0.2, 0.7, 0.1]), {"saliency": RAMP})
    names = ("Type_1", "Type_2", "Type_3")
    explanation_panels.explanation_figure(
        GREY, found, names, "80.jpg, by run", tmp_path / "x.png", score_name="logit of the type", true_name="Type_3"
    )
    ((figure, title),) = figures
    assert title == "80.jpg, by run"
    assert "Evidence for Type 2 (logit of the type)" in figure.get_supxlabel()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["true Type 3", "Saliency"]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["20%", "70%", "10%"]


def test_the_cervix_is_outlined_in_the_photograph_and_its_confidence_said(tmp_path, monkeypatch) -> None:
    figures = []
    monkeypatch.setattr(explanation_panels, "save", lambda figure, title, path: figures.append(figure))
    found = Explanation(1, np.array([0.2, 0.7, 0.1]), {"saliency": RAMP})
    names, located = ("Type_1", "Type_2", "Type_3"), [LocatedBox((0.2, 0.3, 0.8, 0.9), 0.618)]
    explanation_panels.explanation_figure(
        GREY, found, names, "title", tmp_path / "x.png", score_name="logit", located=located
    )
    photograph, evidence = figures[0].axes[:2]
    assert photograph.get_title() == "photograph\ncervix, confidence 0.62"
    np.testing.assert_array_equal(photograph.images[0].get_array(), draw_boxes(GREY, [located[0].box]))
    np.testing.assert_allclose(evidence.images[0].get_array(), explanation_panels.overlay(GREY, RAMP))
