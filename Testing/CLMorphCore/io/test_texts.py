"""Settings, JSON, texts and tables: what is damaged is one line, and cells of a table are no formulas."""

import pytest

from CLMorphCore.bundles.atlas import Structure, read_structures
from CLMorphCore.errors import FileError, InputError
from CLMorphCore.io.files import parse_json, read_text, read_toml, short
from CLMorphCore.io.tables import escaped, unescaped


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "a = " + "9" * 5000, "a = 2020-99-99", "\0", "a ="])
def test_settings_that_are_damaged_in_any_way_are_one_line(text, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(FileError, match=r"a\.toml cannot be read as TOML: .*; expected settings; mend it") as caught:
        read_toml(tmp_path / "a.toml", "settings")
    assert len(str(caught.value)) < 400


def test_json_that_nests_too_deeply_is_an_error_as_any_other():
    for text in ("[" * 100_000, "9" * 5000, "{", "nul"):
        with pytest.raises(ValueError, match=r"brackets|digits|Expecting"):
            parse_json(text)


def test_a_text_is_read_without_its_mark_and_refused_in_another_encoding(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffä".encode())
    assert read_text(tmp_path / "a", "text") == "ä"
    (tmp_path / "a").write_bytes("ä".encode("latin-1"))
    with pytest.raises(FileError, match="byte 0 is not UTF-8; expected text; save it as UTF-8"):
        read_text(tmp_path / "a", "text")
    assert short("x" * 500).endswith(" …") and len(short("x" * 500)) == 120 and short(16**5000)


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\tx", "'x", "'=x", "plain", "", "ä=b"])
def test_cells_are_no_formulas_and_come_back(text):
    assert unescaped(escaped(text)) == text and not escaped(text).startswith(("=", "+", "-", "@", "\t"))


def test_a_table_of_many_labels_is_read_in_linear_time_and_formulas_come_back(tmp_path):
    rows = [f"{n},\"'=Part {n}\",#aabbcc,''-T" for n in range(1, 40_001)]
    (tmp_path / "labels.csv").write_text("\n".join(["value,name,color,terminology", *rows]))
    found = read_structures(tmp_path / "labels.csv")
    assert len(found) == 40_000 and found[6] == Structure(7, "=Part 7", "#aabbcc", "'-T")
    (tmp_path / "labels.csv").write_text("\n".join(["value,name", *(f"{n},x" for n in (1, 2, 1))]))
    with pytest.raises(InputError, match="names the label 1 twice"):
        read_structures(tmp_path / "labels.csv")
