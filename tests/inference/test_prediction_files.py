"""Prediction of folders: the CSV, files that cannot be read, and where photographs come from."""

import csv
import shutil

import numpy as np
import pytest

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference.image_folder import NoPhotographsError
from cervix_jax.inference.prediction_files import check_output, predict_folder
from cervix_jax.inference.predictor import Predictor
from cervix_jax.outputs import OutputError


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_a_photograph_as_kaggle_wants_it(predictor, manual_dir, tmp_path):
    result = predict_folder(predictor, manual_dir / "test", tmp_path / "out" / "p.csv", batch_size=3)
    lines = (tmp_path / "out" / "p.csv").read_text().splitlines()
    assert lines[0] == "image_name,Type_1,Type_2,Type_3"
    rows = rows_of(tmp_path / "out" / "p.csv")
    assert [row["image_name"] for row in rows] == [f"{i}.jpg" for i in range(7)]
    table = np.array([[float(row[name]) for name in predictor.class_names] for row in rows])
    assert (table >= 0).all()
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-7)
    assert {key: result[key] for key in ("predicted", "skipped", "output", "temperature")} == {
        "predicted": 7,
        "skipped": [],
        "output": str(tmp_path / "out" / "p.csv"),
        "temperature": 1.0,
    }


def test_a_file_gets_the_probabilities_that_its_prepared_example_gets(predictor, manual_dir, tmp_path):
    examples = load_dataset(predictor.config).examples("test")
    photographs = [predictor.read(examples.jpeg(i)) for i in range(len(examples))]
    expected = dict(zip(examples.ids, predictor.probabilities(photographs), strict=True))
    predict_folder(predictor, manual_dir, tmp_path / "p.csv")
    rows = {row["image_name"]: row for row in rows_of(tmp_path / "p.csv")}
    assert len(rows) == 67
    for name, probabilities in expected.items():
        found = [float(rows[name][column]) for column in predictor.class_names]
        np.testing.assert_allclose(found, probabilities, atol=1e-6)


def test_a_run_with_a_localiser_says_where_it_looked(cropped_run, manual_dir, tmp_path):
    predictor = Predictor.restore([cropped_run[0]])
    predict_folder(predictor, manual_dir / "test", tmp_path / "p.csv")
    for row in rows_of(tmp_path / "p.decisions.csv"):
        found = predictor.read(manual_dir / "test" / row["image_name"]).located[0]
        box = [float(row[name]) for name in ("left", "top", "right", "bottom", "confidence")]
        np.testing.assert_allclose(box, (*found.box, found.confidence), atol=1e-4)


def test_cases_have_rows_of_their_own(predictor, manual_dir, tmp_path):
    folder = shutil.copytree(manual_dir / "test", tmp_path / "test")
    (folder / "cases.csv").write_text("image_name,case\n0.jpg,A\n1.jpg,A\n2.jpg,B\n")
    result = predict_folder(predictor, folder, tmp_path / "p.csv", batch_size=2)
    assert (result["cases"]["count"], result["familiarity"]) == (6, "not assessed")
    table = {row["image_name"]: row for row in rows_of(tmp_path / "p.csv")}
    cases = {row["case"]: row for row in rows_of(tmp_path / "p.cases.csv")}
    assert {name: row["photographs"] for name, row in cases.items()} == {
        **{"A": "2", "B": "1"},
        **{f"{i}.jpg": "1" for i in range(3, 7)},
    }
    mean = (float(table["0.jpg"]["Type_2"]) + float(table["1.jpg"]["Type_2"])) / 2
    assert float(cases["A"]["Type_2"]) == pytest.approx(mean, abs=1e-7)
    by_pattern = predict_folder(predictor, manual_dir / "test", tmp_path / "q.csv", case_pattern="(?P<case>[0-2])")
    assert by_pattern["cases"]["count"] == 7
    assert predict_folder(predictor, manual_dir / "test", tmp_path / "r.csv")["cases"] is None
    assert not (tmp_path / "r.cases.csv").exists()


def test_unreadable_files_are_named_and_left_out(predictor, manual_dir, tmp_path):
    folder = tmp_path / "a, b"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(manual_dir / "test/0.jpg", folder / "sub/ö 0.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / 'odd,"name.png').write_text("text")
    result = predict_folder(predictor, folder, tmp_path / "p.csv")
    assert result["predicted"] == 1
    assert {row["image_name"]: row["reason"] for row in result["skipped"]} == {
        "empty.jpg": "empty file",
        'odd,"name.png': "not a picture",
    }
    assert [row["image_name"] for row in rows_of(tmp_path / "p.csv")] == ["sub/ö 0.jpg"]
    (decision,) = rows_of(tmp_path / "p.decisions.csv")
    assert decision["set"] == decision["decision"] == decision["type"]
    assert 0 < float(decision["quality"]) <= 1


def test_only_predictions_are_replaced_unless_asked_for(predictor, manual_dir, tmp_path):
    output, others = tmp_path / "p.csv", tmp_path / "boxes.csv"
    check_output(output, overwrite=False)
    predict_folder(predictor, manual_dir / "test/0.jpg", output)
    check_output(output, overwrite=False)
    for header in ("image_name,left,top,right,bottom", "image_name,label", "filename,old_label,new_label", "\xff"):
        others.write_text(header + "\n", encoding="latin-1")
        with pytest.raises(OutputError, match=r"boxes.csv is something else"):
            check_output(others, overwrite=False)
        check_output(others, overwrite=True)
    for name in ("p.cases.csv", "p.decisions.csv"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=rf"{name} is something else"):
            check_output(output, overwrite=False)
        (tmp_path / name).unlink()
    with pytest.raises(OutputError, match="whose name ends in"):
        check_output(tmp_path, overwrite=True)


def test_nothing_to_predict_is_an_error_and_leaves_no_file(predictor, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(NoPhotographsError, match="holds no pictures"):
        predict_folder(predictor, tmp_path / "none", tmp_path / "p.csv")
    with pytest.raises(NoPhotographsError, match="there is no folder"):
        predict_folder(predictor, tmp_path / "missing", tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()
