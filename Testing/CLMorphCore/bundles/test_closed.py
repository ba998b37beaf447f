"""Folders of atlases that may not be listed or entered: the true reason, not that nothing is in them."""

import shutil
from pathlib import Path

import pytest

from CLMorphCore.bundles.atlas import read_atlases
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import FileError


@pytest.fixture(params=["iterdir", "is_dir"])
def closed(request, monkeypatch, tmp_path, tiny_model):
    """A model's atlases in a folder that cannot be listed, or whose folders cannot be looked at."""
    shutil.copytree(tiny_model, tmp_path / "model")
    folder, usual = tmp_path / "model" / "atlases", getattr(Path, request.param)

    def forbidden(path):
        if path == folder or path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, request.param, forbidden)
    return folder


def test_it_is_said_of_a_folder_of_atlases(closed):
    with pytest.raises(FileError, match=r"atlases cannot be read: no permission"):
        read_atlases(closed)


def test_it_is_said_of_a_model(closed):
    with pytest.raises(FileError, match=r"atlases cannot be read: no permission"):
        load_model(closed.parent)


def test_hidden_folders_and_files_are_no_atlases(tiny_model, tmp_path):
    shutil.copytree(tiny_model / "atlases", tmp_path / "atlases")
    (tmp_path / "atlases" / ".hidden").mkdir()
    (tmp_path / "atlases" / "notes.txt").write_text("mine")
    assert [atlas.name for atlas in read_atlases(tmp_path / "atlases")] == ["ellipsoids"]
