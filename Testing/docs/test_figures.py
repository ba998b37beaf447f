"""Figures in sentences: each is put there from its source, and none stands there that is from nowhere."""

import pytest
from site_pages.figures import NO_FIGURES, Sentences, from_nowhere, put
from site_pages.places import ROOT
from site_pages.readme import filled_pages, sentences

# What was tried is told there as it was then; of it, only what is so today is put in.
TOLD = {"CHANGELOG.md", *(f"Training/results/{name}.md" for name in ("quality", "heads/README", "benchmarks/README"))}
WRITTEN = [page for page in filled_pages() if page.relative_to(ROOT).as_posix() not in TOLD]
PAGE = "A mean Dice of 0.853 over 20\nsubjects, and 1,234 voxels, in Slicer 5.10.\n"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_figure_is_from_nowhere(page):
    """A figure belongs into site_pages/said.py, with its source; what is none, into its settled phrases."""
    own = sentences().get(page.relative_to(ROOT).as_posix(), Sentences(()))
    assert from_nowhere(page.read_text(encoding="utf-8"), own) == []


def test_every_sentence_belongs_to_a_page():
    assert set(sentences()) <= {page.relative_to(ROOT).as_posix() for page in filled_pages()}


def test_numbers_are_put_where_the_sentence_stands_and_nothing_else_changes():
    now = put(PAGE, ["Dice of 0.861 over 21 subjects", "and 2,345 voxels"])
    assert now == PAGE.replace("0.853", "0.861").replace("20", "21").replace("1,234", "2,345")


@pytest.mark.parametrize("sentence", ["Dice of 0.853 over 20 patients", " 1"])
def test_a_sentence_that_is_not_there_once_is_said(sentence):
    with pytest.raises(ValueError, match="expected one"):
        put(PAGE, [sentence])


def test_a_figure_from_nowhere_is_found_with_its_line():
    assert from_nowhere(PAGE, Sentences(("and 1,234 voxels",))) == ["line 1: A mean Dice of 0.853 over 20"]
    assert from_nowhere(PAGE, Sentences(("Dice of 0.853 over 20", "and 1,234 voxels"))) == []
    with pytest.raises(ValueError, match="nothing reads as"):
        from_nowhere(PAGE, Sentences((), ("not there 7",)))


def test_what_is_no_figure_is_named_once():
    assert len(set(NO_FIGURES)) == len(NO_FIGURES)
