"""What the release check looks at, and hooks that check what make lint checks."""

import re
import sys

import yaml
from site_pages.places import ROOT

import CLMorphCore

sys.path.append(str(ROOT / ".ci"))
from release_check import _tracked, missing, other_versions, version_of


def test_the_version_is_read_from_the_package_without_importing_it():
    assert version_of((ROOT / "CLMorphCore" / "__init__.py").read_text(encoding="utf-8")) == CLMorphCore.__version__


def test_files_that_are_missing_and_versions_that_differ_are_named():
    assert missing(["a", "b"], ["b", "c"], "the wheel") == ["the wheel lacks a"]
    assert other_versions("1.0.0", {"CITATION.cff": "1.0.0", "CHANGELOG.md": "", "wheel": "0.9"}) == [
        "CHANGELOG.md has version none, the package 1.0.0",
        "wheel has version 0.9, the package 1.0.0",
    ]


def test_every_file_of_every_model_is_looked_for():
    tracked = set(_tracked("CLMorphCore"))
    there = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "CLMorphCore" / "models").rglob("*") if path.is_file()
    }
    assert there and there <= tracked


def test_hooks_check_what_make_lint_checks():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lint = re.findall(
        r"^\t\$\(BIN\)/((?:ruff|pyright).*)$", makefile.partition("\nlint:")[2].partition("\n\n")[0], re.M
    )
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    assert lint == ["ruff check", "ruff format --check", "pyright"]
    assert all(any(entry.startswith(f".venv/bin/{command}") for entry in hooks) for command in lint)
