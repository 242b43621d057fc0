"""Figures of whole folders: what is written, named, grouped and refused."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cervix_jax.explainers.methods import Explanation, explain
from cervix_jax.explainers.predictor_score import LayerError
from cervix_jax.inference.image_folder import NoPhotographsError
from cervix_jax.plots import explanation_panels
from cervix_jax.plots.explanation_files import MethodError, OutputError, explain_images
from tests.explainers.nets import make_member, make_predictor


@pytest.fixture(scope="module")
def predictor():
    return make_predictor(make_member())


@pytest.fixture
def photographs(manual_dir, tmp_path):
    """Two of type 1, one of type 3, one in a folder without a type, and a damaged one."""
    folder = tmp_path / "photographs"
    for source, name in (("Type_1", "a"), ("Type_1", "b"), ("Type_3", "a")):
        (folder / source).mkdir(parents=True, exist_ok=True)
        path = sorted((manual_dir / "train" / source).iterdir())["ab".index(name)]
        shutil.copy(path, folder / source / f"{name}.jpg")
    (folder / "other").mkdir()
    shutil.copy(sorted((manual_dir / "test").iterdir())[0], folder / "other/c.jpg")
    (folder / "other/empty.jpg").touch()
    return folder


def test_a_figure_each_and_contact_sheets_by_true_and_predicted_type(predictor, photographs, tmp_path) -> None:
    output = tmp_path / "out"
    found = explain_images(predictor, photographs, output, methods=("saliency", "grad_cam"), batch_size=3)
    names = {path.relative_to(output).as_posix() for path in output.rglob("*.png")}
    sheets = {"contact_sheet_saliency.png", "contact_sheet_grad_cam.png"}
    assert names == {"Type_1/a.png", "Type_1/b.png", "Type_3/a.png", "other/c.png"} | sheets
    assert {str(output / name) for name in names} == set(found["figures"])
    assert found["explained"] == 4
    assert [entry["image_name"] for entry in found["skipped"]] == ["other/empty.jpg"]
    for name in names:
        with Image.open(output / name) as figure:
            assert min(figure.size) > 200


@pytest.mark.parametrize("form", ["pdf", "html"])
def test_other_formats(predictor, photographs, tmp_path, form: str) -> None:
    photograph = photographs / "Type_1/a.jpg"
    found = explain_images(predictor, photograph, tmp_path / "out", methods=["saliency"], form=form)
    files = [path.name for path in (tmp_path / "out").iterdir()]
    if form == "pdf":
        assert sorted(files) == ["a.pdf", "contact_sheet_saliency.pdf"]
    else:
        assert files == ["explanations.html"]
        page = (tmp_path / "out/explanations.html").read_text()
        assert page.count("data:image/png;base64,") == 2
        assert not re.search(r"(src|href)=.(?!data:)", page)
    assert len(found["figures"]) == len(files)


def test_pictures_of_one_stem_do_not_overwrite_each_other(predictor, photographs, tmp_path) -> None:
    shutil.copy(photographs / "Type_1/a.jpg", photographs / "Type_1/a.jpeg")
    found = explain_images(predictor, photographs / "Type_1", tmp_path / "out", methods=["saliency"])
    assert len(set(found["figures"])) == 4
    assert {"a.jpg.png", "a.jpeg.png", "b.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_figures_never_lie_among_the_photographs(predictor, photographs) -> None:
    for images, output in (
        (photographs, photographs),
        (photographs, photographs / "explained"),
        (photographs / "Type_1/a.jpg", photographs / "Type_1"),
    ):
        before = sorted(photographs.rglob("*"))
        with pytest.raises(OutputError, match="among the photographs"):
            explain_images(predictor, images, output, methods=["saliency"], form="html")
        assert sorted(photographs.rglob("*")) == before


def test_names_that_mean_something_elsewhere(predictor, photographs, tmp_path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    for name in ("$frac$.jpg", "contact_sheet_saliency.jpg"):
        shutil.copy(photographs / "Type_1/a.jpg", folder / name)
    options = {"methods": ["saliency", "saliency"], "target": "margin", "type_name": "Type_2"}
    found = explain_images(predictor, folder, tmp_path / "out", **options)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"$frac$.png", "contact_sheet_saliency.jpg.png", "contact_sheet_saliency.png"}
    assert len(found["figures"]) == 3


def test_members_that_see_photographs_otherwise_count_by_what_they_add(photographs) -> None:
    """Two members with the same weights, one of which sees a quarter of the pixels, log as much as each other."""
    small, large = make_member(0, dataset__image_size=(24, 16)), make_member(0, dataset__image_size=(48, 32))
    read = {}
    for members in ((small,), (large,), (small, large)):
        predictor = make_predictor(*members)
        photograph = predictor.read(photographs / "Type_1/a.jpg")
        explained = explain(predictor, [photograph], ["saliency"], classes=np.array([1]))
        read[len(members), members[-1].view.size] = explained[0].heat["saliency"]
    alone = read[1, (24, 16)], read[1, (48, 32)]
    np.testing.assert_allclose(read[2, (48, 32)], 0.5 * (alone[0] + alone[1]), rtol=1e-3, atol=1e-4 * alone[0].max())
    assert 0.2 < alone[0].sum() / alone[1].sum() < 5  # not by the ratio of the pixels


def test_the_type_that_is_asked_for_is_explained(predictor, photographs) -> None:
    paths = [photographs / "Type_1/a.jpg", photographs / "Type_3/a.jpg"]
    read = [predictor.read(path) for path in paths]
    for explanation, path in zip(explain(predictor, read, ["saliency"]), paths, strict=True):
        assert explanation.explained == explanation.probabilities.argmax()
        assert explanation.heat["saliency"].shape == Image.open(path).size[::-1]
    (one, two) = explain(predictor, read, ["saliency"], classes=np.array([2, 0]))
    assert (one.explained, two.explained) == (2, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methods": ["lime"]}, MethodError, "no method 'lime'; there are saliency, smooth_grad"),
        ({"methods": []}, MethodError, "no method is named"),
        ({"type_name": "Type_4"}, MethodError, "no type 'Type_4'; there are Type_1, Type_2, Type_3"),
        ({"layer": "stage9", "methods": ["grad_cam"]}, LayerError, "feature maps are stem, stage1_block1"),
        ({"layer": "stem", "methods": ["saliency"]}, MethodError, "read by grad_cam alone"),
    ],
)
def test_what_is_not_there_is_listed(predictor, photographs, tmp_path, options, error, message) -> None:
    with pytest.raises(error, match=message):
        explain_images(predictor, photographs, tmp_path / "out", **options)


def test_nothing_to_explain_is_said(predictor, photographs, tmp_path) -> None:
    for path, message in (
        (tmp_path / "nowhere", "there is no folder"),
        (photographs / "other/empty.jpg", "no picture can be read"),
        (__file__, "not named like a picture"),
    ):
        with pytest.raises(NoPhotographsError, match=message):
            explain_images(predictor, type(tmp_path)(path), tmp_path / "out")


ZERO = np.zeros((8, 6), np.float32)
RAMP = np.linspace(0, 2, 48, dtype=np.float32).reshape(8, 6)
GREY = np.full((8, 6, 3), 100, np.uint8)


@pytest.mark.parametrize("heat", [ZERO, ZERO * np.nan, ZERO + np.inf], ids=["zero", "nan", "inf"])
def test_no_evidence_is_never_a_picture(heat, tmp_path, monkeypatch) -> None:
    assert explanation_panels.relative(heat) is None
    assert explanation_panels.overlay(GREY, heat) is None
    figures = []
    monkeypatch.setattr(explanation_panels, "save", lambda figure, title, path: figures.append(figure))
    found = Explanation(0, np.array([0.5, 0.3, 0.2]), {"grad_cam": heat, "saliency": RAMP})
    names = ("Type_1", "Type_2", "Type_3")
    explanation_panels.explanation(GREY, found, names, "title", tmp_path / "x.png", score_name="logit")
    group = explanation_panels.Group()
    group.add("x", GREY, found)
    explanation_panels.contact_sheet({"all": group}, "grad_cam", "title", tmp_path / "y.png")
    titles = [axes.get_title() for figure in figures for axes in figure.axes]
    why = "no evidence" if np.isfinite(heat).all() else "not finite"
    assert f"Grad-CAM: {why}" in titles
    assert "Saliency" in titles
    assert f"x: {why}" in titles


def test_more_evidence_is_brighter_in_grey_too() -> None:
    shown = explanation_panels.overlay(GREY * 0 + 255, RAMP)
    assert explanation_panels.relative(RAMP).max() == 1
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
    explanation_panels.explanation(
        GREY, found, names, "80.jpg, by run", tmp_path / "x.png", score_name="logit of the type", true_name="Type_3"
    )
    ((figure, title),) = figures
    assert title == "80.jpg, by run"
    assert "Evidence for Type 2 (logit of the type)" in figure.get_supxlabel()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["true Type 3", "Saliency"]
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["20%", "70%", "10%"]
