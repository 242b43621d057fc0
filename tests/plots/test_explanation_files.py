"""Figures of whole folders: what is written, named, grouped and refused."""

import re
import shutil

import pytest
from PIL import Image

from cervix_jax.explainers.predictor_score import LayerError
from cervix_jax.inference.image_folder import NoPhotographsError
from cervix_jax.outputs import OutputError
from cervix_jax.plots.explanation_files import MethodError, explain_images
from tests.explainers.random_predictors import make_member, make_predictor


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


def test_what_is_no_figure_is_not_replaced_unless_asked_for(predictor, photographs, tmp_path) -> None:
    images, output = photographs / "Type_1/a.jpg", tmp_path / "out"
    options = {"methods": ["saliency"]}
    explain_images(predictor, images, output, **options)
    explain_images(predictor, images, output, **options)  # its own figures are
    Image.new("L", (4, 4)).save(output / "a.png")  # a mask, say
    with pytest.raises(OutputError, match=r"a.png is something else than what would be written; --overwrite replaces"):
        explain_images(predictor, images, output, **options)
    explain_images(predictor, images, output, **options, overwrite=True)
    with Image.open(output / "a.png") as figure:
        assert min(figure.size) > 200


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
def test_unknown_names_are_refused(predictor, photographs, tmp_path, options, error, message) -> None:
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
