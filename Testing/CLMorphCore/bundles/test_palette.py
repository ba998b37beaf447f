"""Colours that neighbours are told apart by, with any kind of colour vision."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import read_atlas
from CLMorphCore.bundles.model import BUNDLED
from CLMorphCore.bundles.palette import PALETTE, choose, differences, told_apart, touching

CLEARLY = 20.0  # in CIELAB; 2 is just noticeable side by side


def test_faces_between_labels_are_counted():
    voxels = np.array([[[1, 1, 2], [0, 4_000_000_000, 2]]], np.uint32)
    assert touching(sitk.GetImageFromArray(voxels)) == {(1, 2): 1, (1, 4_000_000_000): 1, (2, 4_000_000_000): 1}


def test_differences_are_of_three_kinds_of_vision():
    """Teal and rose, which differ to most by hue alone, are closer to dichromats than they are in CIELAB."""
    found = differences()
    assert found.shape == (len(PALETTE),) * 2 and (found == found.T).all() and (found.diagonal() == 0).all()
    rose, teal = PALETTE.index("#cc6677"), PALETTE.index("#44aa99")
    assert found[rose, teal] < 25


@pytest.mark.parametrize("name", ["brain", "heart", "hippocampus"])
def test_structures_that_touch_in_a_shipped_atlas_differ_to_everybody(name):
    atlas = told_apart(read_atlas(BUNDLED / name / "atlases" / "average"))
    place = {each.value: PALETTE.index(each.color) for each in atlas.structures}
    met = [pair for pair in touching(atlas.labels) if set(pair) <= set(place)]
    assert met and min(differences()[place[a], place[b]] for a, b in met) > CLEARLY


def test_no_two_of_few_share_a_colour():
    assert len(set(choose([], range(1, 10)).values())) == 9


def test_the_command_colours_report_and_page(clmorph, place):
    for colors in ("atlas", "safe"):
        ran = clmorph(
            "segment", place / "scan.nii.gz", "--model", place / "model", "-o", place / colors, "--colors", colors
        )
        assert ran.code == 0, ran.err
    own, safe = (
        [each["color"] for each in json.loads((place / colors / "report.json").read_text("utf-8"))["structures"]]
        for colors in ("atlas", "safe")
    )
    assert own == ["#d8654f", "#4f8fd8", "#6fbf5f"] and set(safe) <= set(PALETTE) and len(set(safe)) == 3
    page = (place / "safe" / "report.html").read_text(encoding="utf-8")
    assert all(color in page for color in safe)
