"""The Dockerfile without an engine: what it says of user, entry and files; make container-check runs its steps."""

import sys
from pathlib import Path

import pytest
from site_pages.places import DOCS, ROOT

from CLMorphCore.cli import build_parser

sys.path.append(str(ROOT / ".ci"))
from dockerfile import environment, instructions, last

FILE = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def test_it_is_not_root_and_needs_no_home():
    user = last(FILE, "USER").text
    assert user.split(":")[0] not in ("root", "0")
    assert FILE.index(last(FILE, "USER")) > max(n for n, each in enumerate(FILE) if each.word in ("RUN", "COPY"))
    assert environment(FILE)["HOME"] == "/tmp"


def test_the_entry_is_a_bids_app():
    program, *words = last(FILE, "ENTRYPOINT").listed
    assert program == "clmorph"
    options = build_parser().parse_args([*words, "/in", "/out", "participant", "--model", "brain"])
    assert options.verb == "cohort" and options.level == "participant" and str(options.bids_output) == "/out"


@pytest.mark.parametrize("copied", [each for each in FILE if each.word == "COPY"], ids=lambda each: each.text)
def test_what_is_copied_is_there_and_not_ignored(copied):
    *sources, _ = copied.listed
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    if not sources[0].startswith("--from="):
        assert all((ROOT / source).exists() and f"!{source}" in kept for source in sources)


def test_the_weights_are_inside():
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not any(line.startswith("CLMorphCore") for line in kept)


def test_packages_are_pinned():
    for each in FILE:
        if each.word == "RUN" and "pip install" in each.text:
            assert "constraints.txt" in each.text
        assert each.word != "FROM" or (":" in each.text and "latest" not in each.text)


def test_the_page_says_what_the_entry_takes():
    text = (DOCS / "container.md").read_text(encoding="utf-8")
    assert "participant --model" in text and Path(ROOT / "Dockerfile").name in text
