"""Tables of scans and designs over their columns: what is taken, and what ends in one line."""

import numpy as np
import pytest

from CLMorphCore.errors import InputError
from CLMorphCore.morphometry.design import design_of, read_table


def table(tmp_path, *columns, scans=8, head="result"):
    names = [name for name, _ in columns]
    rows = [",".join([f"s{n}", *(str(values[n]) for _, values in columns)]) for n in range(scans)]
    path = tmp_path / "scans.csv"
    path.write_text("\n".join([",".join([head, *names]), *rows]) + "\n", encoding="utf-8")
    return path


GROUP = ("group", ["patient", "control"] * 4)
AGE = ("age", [20, 31, 25, 44, 52, 38, 61, 47])


def test_a_design_of_two_groups_and_a_number(tmp_path):
    read = read_table(table(tmp_path, GROUP, AGE))
    assert read.folders[2] == tmp_path / "s2"
    design = design_of(read, "group+ age")
    group, age = design.terms
    assert group.levels == ("control", "patient") and group.contrast == "patient > control"
    assert group.values.tolist() == [1, 0] * 4 and age.values.tolist() == AGE[1] and age.levels is None
    assert design.freedom == 5 and design.others(age)[:, 0].tolist() == [1, 0] * 4


def test_two_numbers_are_two_groups_the_greater_one_second(tmp_path):
    design = design_of(read_table(table(tmp_path, ("dose", [10, 2, 10, 2, 2.0, 10, 2, 10]))), "dose")
    assert design.terms[0].levels == ("2", "10") and design.terms[0].values.tolist() == [1, 0, 1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("columns", "scans", "formula", "said"),
    [
        ([GROUP, AGE], 8, "groupe", "has no column groupe; did you mean group"),
        ([GROUP, AGE], 8, "group + group", "no list of different columns"),
        ([GROUP, AGE], 8, "group * age", r"has no column group \* age"),
        ([GROUP, AGE], 5, "group + age", "5 scans for a design of 2 terms and an intercept; expected at least 6"),
        ([("site", ["x"] * 8)], 8, "site", "site is x for every scan"),
        ([("age", [30] * 8)], 8, "age", "age is 30 for every scan"),
        ([("age", [20, 31, "", 44, 52, 38, 61, 47])], 8, "age", "row 3 has no age"),
        ([("age", [20, 31, "n/a", 44, 52, 38, 61, 47])], 8, "age", "row 3 has no age"),
        (
            [("age", [20, 31, "old", 44, 52, 38, 61, 47])],
            8,
            "age",
            "'old' is no number; expected numbers, or two groups",
        ),
        ([("arm", ["a", "b", "c", "a", "b", "c", "a", "b"])], 8, "arm", "arm has 3 values"),
        ([("group", ["p"] + ["c"] * 7)], 8, "group", "1 scan has group p; expected at least 2"),
        ([AGE, ("months", [12 * n + 3 for n in AGE[1]])], 8, "age + months", "follows from the other terms"),
    ],
)
def test_what_cannot_be_tested_ends_in_one_line(tmp_path, columns, scans, formula, said):
    with pytest.raises(InputError, match=said) as raised:
        design_of(read_table(table(tmp_path, *columns, scans=scans)), formula)
    assert "\n" not in str(raised.value)


def test_a_table_without_results_or_with_one_twice_ends_in_one_line(tmp_path):
    with pytest.raises(InputError, match="lacks the column result"):
        read_table(table(tmp_path, GROUP, head="subject"))
    path = tmp_path / "twice.csv"
    path.write_text("result,age\na,1\na,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="the result 'a' twice"):
        read_table(path)
    path.write_text("result,age\n", encoding="utf-8")
    with pytest.raises(InputError, match="no rows"):
        read_table(path)
    path.write_text("result;age\na;1\n", encoding="utf-8")
    with pytest.raises(InputError, match="semicolons"):
        read_table(path)
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "none.csv")


def test_numbers_are_exact(tmp_path):
    design = design_of(read_table(table(tmp_path, AGE)), "age")
    assert np.array_equal(design.terms[0].values, np.array(AGE[1], float))
