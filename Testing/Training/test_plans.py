"""Plans beside recipes: what both choose, what differs, and what only one of them knows."""

import pytest

from CLMorphCore.training.plan import Choice
from Training.plans import main, side_by_side


def test_what_differs_is_marked_and_what_a_recipe_lacks_is_left_out():
    choices = [
        Choice("data.spacing_mm", [1.0, 1.0, 1.0], "as fine as the scans"),
        Choice("loss.window_voxels", [9, 9, 9], "noise"),
        Choice("augment.crop", [32, 48, 32], "a | b"),
        Choice("atlas.subjects", 40, "at most"),
    ]
    recipe = {"data": {"spacing_mm": (1.0, 1.0, 1.0)}, "loss": {"window_voxels": 5}, "augment": {"crop": (32, 48, 32)}}
    assert side_by_side(choices, recipe).splitlines()[2:] == [
        "| data.spacing_mm | 1 | 1 | as fine as the scans |",
        "| loss.window_voxels | 5 | **9** | noise |",
        "| augment.crop | 32 48 32 | 32 48 32 | a \\| b |",
    ]


@pytest.mark.parametrize("given", ["hippocampus", "liver=scans.csv"])
def test_an_organ_without_a_recipe_or_scans_is_refused_in_one_line(given, tmp_path, capsys):
    assert main([given, "-o", str(tmp_path / "plans.md")]) == 2
    assert "expected ORGAN=MANIFEST.csv" in capsys.readouterr().err and not list(tmp_path.iterdir())
