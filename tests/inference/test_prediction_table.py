"""Tables of predictions come back as they were, whatever the names, and damaged ones are named by line."""

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.inference.prediction_table import PredictionTable, TableError
from cervix_jax.labels import CLASS_NAMES


def make_table(ids) -> PredictionTable:
    rng, count = np.random.default_rng(0), len(ids)
    return PredictionTable(
        list(ids),
        rng.integers(0, 3, count),
        rng.integers(0, 9, count),
        rng.integers(-1, 5, count),
        rng.dirichlet(np.ones(3), count),
        CLASS_NAMES,
    )


@given(names=st.lists(st.binary(min_size=1).map(os.fsdecode), min_size=1, max_size=5, unique=True))
def test_a_table_comes_back_as_it_was(tmp_path_factory, names) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    table = make_table(names)
    table.write(path)
    assert PredictionTable.is_table(path)
    back = PredictionTable.read(path)
    assert (back.ids, back.class_names) == (table.ids, table.class_names)
    for name in ("labels", "groups", "folds"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    np.testing.assert_allclose(back.probabilities, table.probabilities, atol=1e-8)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_name", "name", "is no table of predictions"),
        ("Type_2,0", "Type_7,0", "line 2: its type is 'Type_7'"),
        (",0.5,", ",0.6,", "line 2: its probabilities do not sum to one"),
        (",0.5,", ",nan,", "line 2: its probabilities do not sum to one"),
        (",0.5,", ",", "line 2: it has 6 values and not 7"),
        ("a.jpg,3", "a.jpg,x", "line 2: .*'x'"),
        ("a.jpg,3", "a.jpg", "line 2: it has 6 values and not 7"),
    ],
)
def test_the_line_of_a_damaged_table_is_named(tmp_path, old, new, message) -> None:
    content = "image_name,group,fold,type,Type_1,Type_2,Type_3\na.jpg,3,0,Type_2,0.25,0.5,0.25\n"
    path = tmp_path / "table.csv"
    path.write_text(content)
    assert PredictionTable.read(path).ids == ["a.jpg"]
    path.write_text(content.replace(old, new))
    with pytest.raises(TableError, match=message):
        PredictionTable.read(path)


def test_a_row_tells_true_and_predicted_type_and_set(tmp_path) -> None:
    table = dataclasses.replace(
        make_table(["a.jpg", "b.jpg"]),
        labels=np.array([0, 2]),
        groups=np.array([4, 5]),
        folds=np.array([-1, 3]),
        probabilities=np.array([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]]),
        sets=np.array([[True, True, False], [False, False, True]]),
    )
    table.write(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "image_name,group,fold,type,Type_1,Type_2,Type_3,predicted,set",
        "a.jpg,4,-1,Type_1,0.25000000,0.50000000,0.25000000,Type_2,Type_1 Type_2",
        "b.jpg,5,3,Type_3,0.12500000,0.12500000,0.75000000,Type_3,Type_3",
    ]
    dataclasses.replace(table, sets=None).write(tmp_path / "table.csv")
    assert [line.split(",")[-1] for line in (tmp_path / "table.csv").read_text().splitlines()] == ["set", "", ""]


def test_what_is_no_table_is_refused(tmp_path) -> None:
    with pytest.raises(TableError, match=r"none.csv cannot be read"):
        PredictionTable.read(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    assert not PredictionTable.is_table(tmp_path / "empty.csv")
    with pytest.raises(TableError, match="cannot be read as a table"):
        PredictionTable.read(tmp_path / "empty.csv")


def test_rows_are_taken_by_name(tmp_path) -> None:
    table = make_table(["a", "b", "c"])
    taken = table.take(["c", "a"])
    assert taken.ids == ["c", "a"]
    np.testing.assert_array_equal(taken.probabilities, table.probabilities[[2, 0]])


def test_tables_of_the_same_types_are_joined() -> None:
    parts = [make_table(["a", "b"]), make_table(["c"])]
    whole = PredictionTable.concatenate(parts)
    assert whole.ids == ["a", "b", "c"]
    np.testing.assert_array_equal(whole.take(["c"]).probabilities, parts[1].probabilities)
    with pytest.raises(TableError, match="tell apart"):
        PredictionTable.concatenate([parts[0], dataclasses.replace(parts[1], class_names=("rest", "Type_1"))])
