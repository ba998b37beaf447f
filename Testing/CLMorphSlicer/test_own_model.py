"""A model of one's own, in a folder: what its card and its picture tell before it is used."""

import struct
import zlib

import pytest

pytest.importorskip("SimpleITK")

from CLMorphSlicerLib import models
from qt_fixtures import write_bundle

CARD = """
[model]
name = "run"
title = "Mäuse"
purpose = "Labels 37 structures."
made = 2026-11-27
[scans]
train = 15
validation = 2
test = 8
voxel_mm = [0.15, 0.15, 0.3]
size_mm = [12.5, 18, 9.75]
[accuracy.validation]
subjects = 2
dice = 0.85
[accuracy.test]
subjects = 8
dice = 0.8411
dice_sd_over_subjects = 0.0123
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(columns: int, rows: int) -> bytes:
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    lines = zlib.compress((b"\0" + b"\x80" * columns) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


@pytest.fixture
def own(tmp_path):
    """A bundle as a training from scans leaves it, with a picture."""
    folder = write_bundle(tmp_path / "mein Modell")
    (folder / "card.toml").write_text(CARD, encoding="utf-8")
    (folder / "picture.png").write_bytes(png(600, 200))
    return folder


@pytest.fixture
def chosen(patient, window, own):
    """The window with this model chosen."""
    window.ui.modelSelector.currentIndex = window.ui.modelSelector.count - 1
    window.ui.modelFolderEdit.currentPath = str(own)
    return window


def words(window) -> str:
    return " ".join(window.ui.modelDescriptionLabel.text.split())


def picture_is_shown(window) -> bool:
    return window.ui.modelPictureLabel.isVisibleTo(window.parent)


def test_card_tells_what_it_is_for_what_it_was_made_of_and_how_good_it_is(own):
    assert models.read_card(own).description.splitlines() == [
        "Labels 37 structures.",
        "Made 2026-11-27 of 15 scans, voxels 0.15 × 0.15 × 0.3 mm, size 12.5 × 18 × 9.75 mm",
        "Mean Dice 0.84 ± 0.01 on 8 unseen subjects",
    ]


def test_accuracy_on_validation_scans_is_told_for_what_it_is(own):
    (own / "card.toml").write_text(CARD.partition("[accuracy.test]")[0], encoding="utf-8")
    assert "Mean Dice 0.85 on 2 unseen subjects; choices were made by them" in models.read_card(own).description
    (own / "card.toml").write_text(CARD.partition("[accuracy")[0], encoding="utf-8")
    assert "not measured" in models.read_card(own).description


@pytest.mark.parametrize(
    "rest",
    [
        "",
        '[accuracy]\ntest = 0.8\n[scans]\ntrain = "15"',
        '[accuracy.test]\ndice = "good"\nsubjects = "x"\ndice_sd_over_subjects = [1]',
        "[accuracy.test]\ndice = nan\n[scans]\ntrain = inf\nvoxel_mm = [1, 2]\nsize_mm = [nan, 1, 1, 1]",
    ],
)
def test_old_or_strange_card_tells_what_it_has(own, rest):
    (own / "card.toml").write_text(f'[model]\nname = "run"\npurpose = "Tests"\n{rest}')
    assert models.read_card(own).description == "Tests"


@pytest.mark.parametrize(
    "card", [b"", b'model = "x"', b"[[model]]\n", b"\xff\xfe", b"x = " + b"[" * 20000, b"[model\nname ="]
)
def test_broken_card_is_one_line_in_the_window(chosen, own, card):
    (own / "card.toml").write_bytes(card)
    chosen._refresh()
    assert words(chosen) == "" and not picture_is_shown(chosen) and not chosen.ui.runButton.enabled
    assert "is not a model: it needs a card.toml" in chosen.ui.statusLabel.text


def test_window_shows_title_facts_and_picture(chosen):
    assert words(chosen).startswith("Mäuse Labels 37 structures. Made 2026-11-27 of 15 scans")
    assert "Mean Dice 0.84 ± 0.01 on 8 unseen" in words(chosen)
    assert picture_is_shown(chosen)
    size = chosen.ui.modelPictureLabel.pixmap.size()
    assert (size.width(), size.height()) == (300, 100)
    chosen.ui.taskTabs.currentIndex = 1
    assert not picture_is_shown(chosen)
    chosen.ui.taskTabs.currentIndex = 0
    chosen.ui.modelSelector.currentIndex = 0  # one that ships, without a picture
    assert not picture_is_shown(chosen) and "Mäuse" not in words(chosen)


def test_picture_of_another_model_takes_its_place(chosen, own, tmp_path):
    other = write_bundle(tmp_path / "other")
    (other / "picture.png").write_bytes(png(40, 30))
    chosen.ui.modelFolderEdit.currentPath = str(other)
    assert picture_is_shown(chosen) and chosen.ui.modelPictureLabel.pixmap.width() == 40
    chosen.ui.modelFolderEdit.currentPath = str(own)
    assert chosen.ui.modelPictureLabel.pixmap.width() == 300


@pytest.mark.parametrize(
    "data", [b"", b"no picture", png(600, 200)[:60], b"\x89PNG\r\n\x1a\n", png(5000, 1), png(9, 9) + bytes(2_000_001)]
)
def test_broken_or_huge_picture_is_one_line_and_nothing_else(chosen, own, data):
    (own / "picture.png").write_bytes(data)
    chosen._refresh()
    assert not picture_is_shown(chosen) and chosen.ui.runButton.enabled
    assert "Its picture.png cannot be shown" in words(chosen) and "Mean Dice 0.84" in words(chosen)
    (own / "picture.png").write_bytes(png(60, 20))
    chosen._refresh()
    assert picture_is_shown(chosen) and "cannot be shown" not in words(chosen)


def test_picture_is_read_once_while_other_things_change(chosen, monkeypatch):
    from CLMorphSlicerLib import picture

    read = []
    monkeypatch.setattr(picture, "read_picture", read.append)
    chosen._refresh()
    chosen.ui.scopeSelector.currentIndex = 0
    assert read == [] and picture_is_shown(chosen)


def test_card_is_shown_as_it_is_written_not_as_a_page(chosen, own):
    (own / "card.toml").write_text('[model]\ntitle = "<b>Bold</b>"\n')
    chosen._refresh()
    assert words(chosen) == "<b>Bold</b>"
    import qt

    assert (
        chosen.ui.modelDescriptionLabel.textFormat == qt.Qt.PlainText == chosen.ui.registerDescriptionLabel.textFormat
    )
