"""Boxes of people: the same box by every format, and wrong rows by name."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cervix_jax.datasets.annotations import BoxesError, annotators, read_boxes

NAMES = ("train/Type_1/1.jpg", "train/Type_1/2.jpg", "train/Type_2/3.jpg", "additional/Type_1/1.jpg")
BOX = (0.25, 0.125, 0.75, 0.5)
SIZE = (400, 200)  # height, width in pixels of a photograph
PIXELS = (50, 50, 150, 200)


def write_csv(folder, *rows, header="image_name,left,top,right,bottom"):
    (folder / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")


def write_coco(folder, name):
    left, top, right, bottom = PIXELS
    image = {"id": 7, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
    annotation = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [left, top, right - left, bottom - top]}
    (folder / "boxes.json").write_text(json.dumps({"images": [image], "annotations": [annotation]}))


def write_cvat(folder, name):
    left, top, right, bottom = PIXELS
    (folder / "boxes.xml").write_text(
        f'<annotations><image id="0" name="{name}" width="{SIZE[1]}" height="{SIZE[0]}">'
        f'<box label="cervix" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"/></image></annotations>'
    )


def write_labelme(folder, name):
    left, top, right, bottom = PIXELS
    path = (folder / name).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    points = [[right, top], [left, bottom]]  # drawn from another corner
    shape = {"label": "cervix", "shape_type": "rectangle", "points": points}
    path.write_text(json.dumps({"shapes": [shape], "imageHeight": SIZE[0], "imageWidth": SIZE[1]}))


def write_plain(folder, name):
    write_csv(folder, f"{name},{','.join(map(str, BOX))}")


@pytest.mark.parametrize("write", [write_plain, write_coco, write_cvat, write_labelme])
def test_every_format_gives_the_same_box(tmp_path, write):
    write(tmp_path, NAMES[0])
    boxes, notes = read_boxes(tmp_path, NAMES)
    assert boxes == {NAMES[0]: {"": pytest.approx(BOX)}}
    assert notes == ["boxes of 1 of 4 photographs"]


def test_no_file_is_no_boxes(tmp_path):
    assert read_boxes(tmp_path, NAMES) == ({}, [])


@pytest.mark.parametrize(
    ("given_name", "found"), [("3.jpg", NAMES[2]), ("Type_2/3.jpg", NAMES[2]), ("Type_1\\2.jpg", NAMES[1])]
)
def test_the_end_of_a_name_is_enough_where_it_is_unique(tmp_path, given_name, found):
    write_plain(tmp_path, given_name)
    assert list(read_boxes(tmp_path, NAMES)[0]) == [found]


def test_several_annotators(tmp_path):
    header = "image_name,annotator,left,top,right,bottom"
    write_csv(tmp_path, f"{NAMES[0]},B,0,0,1,1", f"{NAMES[0]},A,0,0,0.5,0.5", f"{NAMES[1]},A,0,0,1,1", header=header)
    boxes, _ = read_boxes(tmp_path, NAMES)
    assert boxes[NAMES[0]] == {"A": (0, 0, 0.5, 0.5), "B": (0, 0, 1, 1)}
    assert annotators(boxes) == ["A", "B"]


def test_boxes_of_other_photographs_are_counted(tmp_path):
    write_csv(tmp_path, "train/Type_1/9.jpg,0,0,1,1", f"{NAMES[0]},0,0,1,1")
    assert read_boxes(tmp_path, NAMES)[1][1] == f"1 boxes of photographs that are not in {tmp_path}"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"{NAMES[1]},0.5,0,0.4,1", "line 3: 0.5, 0, 0.4, 1 is empty"),
        (f"{NAMES[1]},0,0,1.5,1", "line 3: 0, 0, 1.5, 1 lies outside"),
        (f"{NAMES[1]},0,0,nan,1", "line 3: a side is no number"),
        (f"{NAMES[1]},0,0,x,1", "line 3: a side is no number"),
        (f"{NAMES[1]},0,0,1e999,1", "line 3: a side is no number"),
        (f"{NAMES[1]},0,0", "line 3: a side is no number"),
        (f"{NAMES[0]},0,0,1,1", "line 3: a second box of train/Type_1/1.jpg"),
        ("1.jpg,0,0,1,1", r"line 3: '1.jpg' may be train/Type_1/1.jpg or additional/Type_1/1.jpg"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, reason):
    write_csv(tmp_path, f"{NAMES[0]},0,0,1,1", row)
    with pytest.raises(BoxesError, match=reason):
        read_boxes(tmp_path, NAMES)


def test_a_missing_column_is_named(tmp_path):
    write_csv(tmp_path, header="image_name,left,top,right")
    with pytest.raises(BoxesError, match="no column bottom"):
        read_boxes(tmp_path, NAMES)


def test_a_number_that_no_float_holds_is_named(tmp_path):
    content = {"imageHeight": 40, "imageWidth": 30, "shapes": [{"points": [[3, 4], [10**400, 20], [12, 9]]}]}
    (tmp_path / "1.json").write_text(json.dumps(content))
    with pytest.raises(BoxesError, match=r"1\.json: a side is no number"):
        read_boxes(tmp_path, ["1.jpg"])


def test_json_that_is_nested_too_deeply_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "boxes.json").write_text("[" * 99999)
    with pytest.raises(BoxesError, match=r"boxes\.json cannot be read as boxes: maximum recursion depth"):
        read_boxes(tmp_path, NAMES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60), name=st.sampled_from(["boxes.csv", "boxes.json", "boxes.xml"]))
def test_damaged_files_are_one_error_that_names_the_file(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with contextlib.suppress(BoxesError), contextlib.ExitStack() as stack:
        stack.callback(path.unlink)
        read_boxes(tmp_path, NAMES)
