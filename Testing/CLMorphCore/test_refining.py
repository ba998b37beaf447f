"""What the command line says of a refinement: its steps, lengths in voxels and in mm, and what it lacks."""

import pytest

from CLMorphCore.cli import build_parser
from CLMorphCore.commands.options import optimization
from CLMorphCore.instance_optimization import InstanceOptimization, Millimetres


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "neither --model nor --refine is given"),
        (("--similarity", "mind"), "--similarity mind is what a refinement maximises; give --refine STEPS too"),
        (("--refine", "0"), "0 given, expected a whole number above zero"),
        (("--refine-smoothing", "0.5"), "--refine-smoothing 0.5 is that of a refinement; give --refine STEPS too"),
        (("--refine", "5", "--refine-smoothing", "nan"), "nan given, expected a number from 0 to 50"),
        (("--refine", "5", "--refine-smoothing", "wide"), "wide given, expected a number from 0 to 50"),
        (("--refine-step-smoothing", "1"), "--refine-step-smoothing 1 is that of a refinement; give --refine STEPS"),
        (("--refine-window", "9"), "--refine-window 9 is that of a refinement; give --refine STEPS too"),
        (("--refine", "5", "--refine-window", "4"), "4 given, expected an odd whole number from 3 to 49"),
        (
            ("--refine", "5", "--refine-window", "9", "--similarity", "mind"),
            "--refine-window 9 is that of the local correlation, which --similarity mind does not use; omit one",
        ),
    ],
)
def test_what_a_refinement_lacks_is_said_in_one_line(clmorph, scan, tmp_path, words, message):
    ran = clmorph("register", scan, scan, "-o", tmp_path / "out", *words)
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_refinements_kernels_and_window_are_those_of_the_command_line():
    words = (
        "register a.nii b.nii -o out --refine 7 --refine-smoothing 0.7 --refine-step-smoothing 1.7 --refine-window 9"
    )
    asked = optimization(build_parser().parse_args(words.split()))
    assert asked == InstanceOptimization(7, smooth_map_voxels=0.7, smooth_step_voxels=1.7, window_voxels=9)


def test_a_refinements_lengths_may_be_in_mm():
    words = "segment a.nii -o out --model brain --refine 7 --refine-smoothing 0.105mm --refine-window 1.35mm"
    asked = optimization(build_parser().parse_args(words.split()))
    assert isinstance(asked.window_voxels, Millimetres) and asked.window_voxels == 1.35
    assert isinstance(asked.smooth_map_voxels, Millimetres) and asked.smooth_map_voxels == 0.105


@pytest.mark.parametrize("length", ["-1mm", "mm", "1 cm", "nanmm", "1e9mm"])
def test_a_length_that_is_none_is_refused(clmorph, scan, tmp_path, length):
    ran = clmorph("register", scan, scan, "-o", tmp_path / "out", "--refine", 5, f"--refine-window={length}")
    assert ran.code == 2 and "or a length like 7mm" in ran.err and ran.err.count("\n") == 1


def test_a_length_that_no_grid_of_the_images_has_is_refused(clmorph, scan, tmp_path):
    ran = clmorph("register", scan, scan, "-o", tmp_path / "out", "--refine", 5, "--refine-window", "0.01mm")
    assert ran.code == 2 and "the refinement's window is 0.01mm, 0.00" in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
