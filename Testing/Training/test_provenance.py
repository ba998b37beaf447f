"""A result names the commit that made it, and says where files differ from it."""

import subprocess
from datetime import datetime

import pytest

from Training.provenance import UNKNOWN, commit, machine, now, provenance


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        made = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(("git", *made, *words), cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", "v1", "-m", "a tag is not the commit's name")
    commit.cache_clear()
    return tmp_path, git("rev-parse", "--short", "HEAD").strip()


def test_the_commit_is_that_of_the_repository(repository):
    folder, short = repository
    (folder / "untracked").touch()
    assert commit(folder) == short


def test_files_that_differ_from_the_commit_add_a_plus(repository):
    folder, short = repository
    (folder / "file").write_text("b")
    assert commit(folder) == short + "+"


def test_outside_of_a_repository_the_commit_is_unknown(tmp_path):
    assert commit(tmp_path) == UNKNOWN


def test_a_file_of_figures_names_commit_time_and_machine():
    told = provenance()
    assert told["commit"] == commit() and told["machine"] == machine() != ""
    assert datetime.fromisoformat(told["made"]).tzinfo is not None and "." not in now()
