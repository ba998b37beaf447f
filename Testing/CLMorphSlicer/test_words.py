"""The words of the window: the engine's parameters by their labels, every text translatable, no colour of its own."""

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from qt_fixtures import begin, finish

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

from CLMorphSlicerLib import words

ROOT = Path(__file__).parents[2] / "CLMorphSlicer"
WORDS = r"[A-Za-z]{2,} [a-z]{2,}"
SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("give `device=cpu`", "give “Compute on: CPU”"),
        ("give `affine`, an ITK transform", "give “Initial alignment”, an ITK transform"),
        ("with `refine=50`", "with “Refinement steps: 50”"),
        ("at most `optimization` of 50", "at most “Refinement steps” of 50"),
        ("with `brain_extraction=off`", "with “Brain extraction: Never”"),
        ("a mask in `brain_extraction`", "a mask in “Brain extraction”"),
        ("`tensorboard` is not installed", "tensorboard is not installed"),
        ("no parameter here", "no parameter here"),
    ],
)
def test_parameters_are_called_as_the_window_calls_them(text, said):
    assert words.in_window_words(text) == said


def test_flags_never_reach_the_window(patient, window):
    begin(window, "names_parameters")
    finish(window)
    said = window.ui.statusLabel.text
    assert said == "out of memory on the graphics card; give “Compute on: CPU”, or less to do with “Initial alignment”"


def test_labels_are_those_of_the_window():
    """Each label is the text of a label of the .ui file, or of one with its value."""
    texts = {prop.findtext("string") for prop in ET.parse(ROOT / "Resources/UI/CLMorphSlicer.ui").iter("property")}
    for name, label in words.labels().items():
        assert f"{label.partition(':')[0]}:" in texts, (name, label)


# -- every text through _()


def sentences(tree: ast.Module) -> list[str]:
    """Texts of several words that a person may read, and that do not pass through _()."""
    found = []

    def look(node: ast.AST, translated: bool) -> None:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("debug", "exception", "warning"):  # the log is for developers
                return
            translated = translated or name in ("_", "translate")
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        elif isinstance(node, ast.JoinedStr):
            text = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
            if re.search(WORDS, text) and not translated:
                found.append(text)
            return
        elif isinstance(node, ast.Constant) and not translated and re.search(WORDS, str(node.value)):
            found.append(node.value)
        for child in ast.iter_child_nodes(node):
            look(child, translated)

    look(tree, False)
    return found


def allowed(text: str) -> bool:
    """Names of widgets in one string, Slicer's name of a list, what only a programmer can cause, and type codes.

    Fields of a NRRD file's header too.
    """
    return bool(
        re.search(r"^space directions: |^space origin: |^kinds: domain|^axis 3 index ", text)
        or re.search(r"CheckBox|Slider|Segmentation category and type|unknown mode|: give a number above 0|SCT\^", text)
        or text in ("CLMorph Jacobian", "not looked at yet", "CLMorph developers")
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_text_can_be_translated(path):
    left = [text for text in sentences(ast.parse(path.read_text(encoding="utf-8"))) if not allowed(text)]
    assert left == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_text_is_translated_after_it_was_filled_in(path):
    """_(f"…") and _("…" + name) would be looked up under a text that no translator has seen."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
            assert isinstance(node.args[0], ast.Constant), f"line {node.lineno}"


def test_finder_of_texts_sees_what_is_not_translated():
    source = (
        '"a doc string"\nraise ValueError("choose another volume")\nx = _("choose a volume")\ny = f"{a} and then {b}"\n'
    )
    assert sentences(ast.parse(source)) == ["choose another volume", " and then "]


# -- the looks are the theme's


@pytest.mark.parametrize("path", [*SOURCES, ROOT / "Resources/UI/CLMorphSlicer.ui"], ids=lambda path: path.name)
def test_no_widget_has_a_colour_of_its_own_and_nothing_pops_up_beside_a_line(path):
    text = path.read_text(encoding="utf-8")
    assert "styleSheet" not in text and "setStyleSheet" not in text and "<colorrole" not in text
    assert "errorDisplay" not in text and "warningDisplay" not in text and "infoDisplay" not in text
