"""Tables of label names, as other programs write them too."""

import json

import pytest

from CLMorphCore.bundles.atlas import default_structures, read_dataset_labels, read_structures, same_names, with_unnamed
from CLMorphCore.commands.options import warn_of_names
from CLMorphCore.errors import InputError


@pytest.mark.parametrize(
    "header", ["value,name", "Label,Structure", "index,label", "ID,Region", "index,Label Name", " Value ,NAME"]
)
def test_columns_may_be_called_as_others_call_them(header, tmp_path):
    (tmp_path / "names.csv").write_text(f"{header}\n1,Liver\n7,Spleen\n")
    assert [(s.value, s.name) for s in read_structures(tmp_path / "names.csv")] == [(1, "Liver"), (7, "Spleen")]


def test_remarks_between_the_rows_are_passed_over(tmp_path):
    remarks = "After the split,\n# others #,\n(label 22 is part of 2),\n"
    (tmp_path / "names.csv").write_text(f"Label,Structure\n1,Liver\n{remarks}7,Spleen\n")
    assert [s.value for s in read_structures(tmp_path / "names.csv")] == [1, 7]
    (tmp_path / "names.csv").write_text("value,name\n1,Liver\nseven,Spleen\n")
    with pytest.raises(InputError, match="cannot be read as a table of labels"):
        read_structures(tmp_path / "names.csv")


def test_a_row_for_a_group_of_labels_is_passed_over_and_told(tmp_path, caplog):
    (tmp_path / "names.csv").write_text("Label,Structure\n1,Liver\n7,Spleen\n1~20,Abdomen\n21 - 40,Chest\n")
    assert [s.name for s in read_structures(tmp_path / "names.csv")] == ["Liver", "Spleen"]
    assert [record.message.split(" of a table")[0] for record in caplog.records] == ["the row 1~20", "the row 21 - 40"]
    (tmp_path / "names.csv").write_text("value,name\n-1,Liver\n")
    with pytest.raises(InputError, match="names the label"):
        read_structures(tmp_path / "names.csv")


@pytest.mark.parametrize("header", ["value,colour", "name,who", "label,size"])
def test_a_table_without_values_or_names_is_refused(header, tmp_path):
    (tmp_path / "names.csv").write_text(f"{header}\n1,Liver\n")
    with pytest.raises(InputError, match="cannot be read as a table of labels"):
        read_structures(tmp_path / "names.csv")


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "Liver", "2": "Spleen"}, {"background": 0, "Liver": 1, "Spleen": 2}]
)
def test_labels_of_a_dataset_json(labels, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    named = read_dataset_labels(tmp_path / "dataset.json")
    assert [(s.value, s.name) for s in named] == [(1, "Liver"), (2, "Spleen")]


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": 3}', '{"labels": {"whole": [1, 2]}}'])
def test_a_dataset_json_without_labels_is_refused(text, tmp_path):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match="names no labels"):
        read_dataset_labels(tmp_path / "dataset.json")


def test_what_has_no_name_has_a_colour_of_its_own_too(tmp_path):
    first, second = (s.color for s in default_structures([1, 2]))
    (tmp_path / "names.csv").write_text(f"value,name,color\n5,Liver,{second}\n1,Spleen,\n9,Kidney,{first.upper()}\n")
    named = read_structures(tmp_path / "names.csv")
    found = with_unnamed(named, [9, 2, 1, 7])
    assert [s.name for s in found] == ["Liver", "Spleen", "Kidney", "Label 2", "Label 7"]
    assert len({s.color.lower() for s in found}) == 5 and found[:3] == named


def test_two_labels_of_one_name_are_told(tmp_path):
    (tmp_path / "names.csv").write_text("value,name\n1,Liver\n2,Liver\n3,Spleen\n")
    (said,) = same_names(read_structures(tmp_path / "names.csv"))
    assert said.startswith("2 labels are called 'Liver'")


def test_a_verb_that_takes_a_table_warns_of_equal_names(tmp_path, caplog):
    (tmp_path / "names.csv").write_text("value,name\n1,Liver\n2,Liver\n")
    warn_of_names(read_structures(tmp_path / "names.csv"))
    assert ["2 labels are called 'Liver'" in record.message for record in caplog.records] == [True]
