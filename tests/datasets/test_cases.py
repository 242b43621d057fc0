"""Cases by table and by pattern, and groups that neither tear a case nor a scene apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.datasets import cases

NAMES = ["Type_1/atlas_A_1.jpg", "Type_2/atlas_A_2.jpg", "Type_2/atlas_B_3.jpg", "Type_3/other.jpg", "Type_1/other.jpg"]


def test_a_pattern_finds_the_cases_and_says_when_it_cannot() -> None:
    found = cases.cases_by_pattern(NAMES, "atlas_(?P<case>[^_]+)_")
    assert found == {NAMES[0]: "A", NAMES[1]: "A", NAMES[2]: "B"}
    assert cases.cases_by_pattern(NAMES, "") == {}
    for pattern, message in (
        ("atlas_(", "no regular"),
        ("atlas_(.)_", "no group of that name"),
        ("(?P<case>x+)", "fits"),
    ):
        with pytest.raises(cases.CaseError, match=message):
            cases.cases_by_pattern(NAMES, pattern)


def test_a_table_names_photographs_by_path_or_unique_end_and_comes_before_the_pattern(tmp_path) -> None:
    (tmp_path / cases.CASES).write_text("case,image_name\nB,atlas_A_2.jpg\nC,Type_3/other.jpg\nD,absent.jpg\n,x.jpg\n")
    found = cases.find_cases(tmp_path, NAMES, "atlas_(?P<case>[^_]+)_")
    assert found == {NAMES[0]: "A", NAMES[1]: "B", NAMES[2]: "B", NAMES[3]: "C"}
    for content, message in (
        ("image_name,woman\n", "has no column"),
        ("image_name,case\nother.jpg,C\n", "line 2: 'other.jpg' may be"),
        ("image_name,case\natlas_B_3.jpg,C\natlas_B_3.jpg,D\n", "line 3: a second case"),
    ):
        (tmp_path / cases.CASES).write_text(content)
        with pytest.raises(cases.CaseError, match=message):
            cases.find_cases(tmp_path, NAMES)


def test_a_table_that_says_nothing_of_the_photographs_is_no_table_without_cases(tmp_path) -> None:
    table = tmp_path / cases.CASES
    table.write_text("image_name,case\natlas_B_3,B\natlas_B_3.png,B\n")  # other endings
    with pytest.raises(cases.CaseError, match=r"names none of the 5 photographs: 'atlas_B_3' and others"):
        cases.find_cases(tmp_path, NAMES)
    table.write_bytes("image_name,case\natlas_B_3.jpg,Müller\n".encode("latin-1"))
    with pytest.raises(cases.CaseError, match="as CSV in UTF-8"):
        cases.find_cases(tmp_path, NAMES)
    table.write_text("image_name,case\n")
    assert cases.find_cases(tmp_path, NAMES) == {}


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=30))
def test_groups_are_the_finest_that_keep_both_together(photographs) -> None:
    names = [str(i) for i in range(len(photographs))]
    groups = np.array([group for group, _ in photographs])
    known = {name: str(case) for name, (_, case) in zip(names, photographs, strict=True) if case is not None}
    united = cases.unite(groups, names, known)
    expected = list(range(len(names)))  # by relabelling until nothing changes
    for _ in names:
        for i, a in enumerate(names):
            for j, b in enumerate(names):
                if groups[i] == groups[j] or (a in known and known[a] == known.get(b)):
                    expected[i] = expected[j] = min(expected[i], expected[j])
    same = np.equal.outer(expected, expected)
    np.testing.assert_array_equal(np.equal.outer(united, united), same)


def test_without_cases_groups_are_as_they_were() -> None:
    groups = np.array([4, 4, 9])
    assert cases.unite(groups, NAMES[:3], {}) is groups
