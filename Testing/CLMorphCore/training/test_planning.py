"""The plan follows from the scans, in units that suit any species; its file is read as it was written."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.errors import InputError
from CLMorphCore.io.manifest import Subject
from CLMorphCore.training.alignments import Alignment
from CLMorphCore.training.fingerprint import Fingerprint
from CLMorphCore.training.measuring import StepCost
from CLMorphCore.training.plan import plan_text, read_plan, write_plan
from CLMorphCore.training.planning import check_enough, make_plan
from CLMorphCore.training.scans import Finding, Scan, kept_on_grid

AFFINE = Alignment("affine", "tried", 1.0)
COST = StepCost(4e-6, 2.0, 16.0)
THUMBNAIL = np.random.default_rng(0).random((24, 24, 24)).astype(np.float32)


def scan(name, voxel=(1.0, 1.0, 1.0), extent=(35.0, 51.0, 36.0), **values):
    about = {"filled": 0.4, "noise": 0.05, "intensity": 1.0, "thumbnail": THUMBNAIL, "digest": name, **values}
    labels = Path("l") if values.get("values") else None
    return Scan(Subject(name, Path(name), labels, ""), voxel, extent, **about)


def scans(count=10, **values):
    return [scan(f"s{n}", **values) for n in range(count)]


def planned(chosen, *findings, minutes=60.0, cost=COST, alignment=AFFINE, structures=lambda factor: 1.0):
    about = Fingerprint(tuple(chosen), findings), alignment, lambda config: cost, structures
    return make_plan(*about, minutes=minutes, name="d")


def test_a_crop_of_hippocampus_gets_what_its_recipe_has():
    config = planned(scans(180, filled=1.0)).config
    assert config.network.settings.channels == (8, 16, 32, 32, 32) and config.network.settings.field_level == 1
    assert config.data.spacing_mm == (1.0, 1.0, 1.0) and config.loss.window_voxels == (5, 5, 5)
    assert (config.training.batch_size, config.loss.contrast, config.loss.symmetric) == (2, 0.01, True)


def test_a_stack_of_slices_is_halved_in_its_plane_and_loses_no_slice():
    stack = scans(20, voxel=(10.0, 1.5, 1.5), extent=(90.0, 190.0, 200.0), filled=0.97)
    config = planned([*stack, scan("thin", (5.0, 1.5, 1.5), (90.0, 190.0, 200.0), filled=0.97)]).config
    assert config.data.spacing_mm == (5.0, 1.5, 1.5) and config.data.margin_voxels == (1, 0, 0)
    assert config.network.settings.flat_levels == 2 and config.loss.window_voxels == (5, 15, 15)
    assert config.augment.rotation_degrees == 5.0


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1e-3, 0.1, 10.0, 100.0]), st.floats(0.0, 0.5), st.floats(1.0, 200.0))
def test_nothing_but_millimetres_depends_on_the_size_of_the_animal(factor, noise, minutes):
    box = (7.5, 18.5, 10.5)
    usual, other = (
        planned(
            scans(
                voxel=(0.15 * k,) * 3, extent=tuple(k * n for n in box), noise=noise, values=(1,), labels_mm=(k,) * 3
            ),
            minutes=minutes,
        )
        for k in (1.0, factor)
    )
    rescaled = replace(other.config.data, spacing_mm=usual.config.data.spacing_mm)
    np.testing.assert_allclose(
        other.config.data.spacing_mm, np.multiply(usual.config.data.spacing_mm, factor), rtol=1e-2
    )
    assert replace(other.config, data=rescaled) == usual.config
    assert other.atlas_margin_mm == pytest.approx(factor * usual.atlas_margin_mm, rel=0.05) and usual.atlas_margin_mm


def test_a_grid_that_would_lose_structures_is_not_taken_and_crops_make_time_instead():
    brains = scans(20, extent=(140.0, 180.0, 150.0), values=(1,), labels_mm=(140.0, 180.0, 150.0))
    coarse = planned(brains, minutes=3.0)
    plan = planned(brains, minutes=3.0, structures=lambda factor: 1.0 if factor <= 2 else 0.5)
    assert coarse.config.data.spacing_mm[0] > 2 and plan.config.data.spacing_mm == (2.0, 2.0, 2.0)
    crop, sides = np.array(plan.config.augment.crop), np.ceil(np.array((140.0, 180.0, 150.0)) / 2 + 6)
    assert (crop % 16 == 0).all() and (crop >= sides / 2).all() and crop.prod() < sides.prod()
    text = plan_text(plan)
    assert "labels keep a Dice of 0.50 only on one 2.5 times as coarse" in text and "more steps than of whole" in text


@settings(max_examples=25, deadline=None)
@given(st.floats(8.0, 300.0))
def test_scans_are_cut_for_the_sake_of_steps_alone(minutes):
    """A network in whose few steps whole scans were seen was worse than none."""
    brains = scans(20, extent=(140.0, 180.0, 150.0))
    config = planned(brains, minutes=minutes).config
    grid = np.ceil((np.array((140.0, 180.0, 150.0)) / config.data.spacing_mm + 6) / 16) * 16
    crop = np.minimum(config.augment.crop, grid)
    steps = 60 * config.training.minutes / COST.seconds(config.training.batch_size * int(crop.prod()))
    assert steps >= 400 and (steps < 1000 or (crop == grid).all())


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 500.0), st.floats(1.0, 500.0))
def test_more_minutes_never_make_the_grid_coarser(one, other):
    chosen = scans(voxel=(0.15,) * 3, extent=(7.5, 18.5, 10.5))
    less, more = (planned(chosen, minutes=m).config for m in sorted((one, other)))
    assert more.data.spacing_mm[0] <= less.data.spacing_mm[0]
    assert more.training.minutes >= less.training.minutes and less.training.minutes >= 0.45 * min(one, other)


@pytest.mark.parametrize(("noise", "window", "fine"), [(0.05, 5, True), (0.2, 7, False), (0.4, 9, False)])
def test_noise_asks_for_wider_windows(noise, window, fine):
    config = planned(scans(noise=noise)).config
    assert config.loss.window_voxels == (window,) * 3
    assert config.network.settings.force_window_voxels == (5, 5, 5), "noise is not to be followed"
    assert config.refinement.every_voxel is fine
    calm = ("map", "early") if noise == 0.4 else ("change", "converged")
    assert (config.refinement.smoothed, config.refinement.ends) == calm


def test_little_memory_asks_for_a_crop():
    chosen = scans(extent=(150.0, 180.0, 150.0))
    whole, cut = (planned(chosen, minutes=600.0, cost=replace(COST, memory_gb=gb)).config for gb in (64.0, 4.0))
    assert whole.augment.crop > (160, 192, 160)
    assert np.prod(cut.augment.crop) * cut.training.batch_size * 2e3 <= 0.6 * 4e9
    assert all(n % 16 == 0 for n in cut.augment.crop)


def test_two_scans_of_each_subject_are_pairs_where_they_lie_as_they_are():
    chosen = [replace(s, subject=replace(s.subject, group=f"g{n // 2}")) for n, s in enumerate(scans(8))]
    lying = Alignment("centres", "", 1.0)
    assert planned(chosen, alignment=lying).config.training.moving == "mixed"
    assert planned(chosen).config.training.moving == "random"
    assert planned(chosen[:-1], alignment=lying).config.training.moving == "random"


def test_test_scans_do_not_choose():
    tests = [
        replace(s, subject=replace(s.subject, split="test", name=f"t-{s.subject.name}")) for s in scans(9, noise=0.5)
    ]
    some, alone = planned([*scans(3), *tests]), planned(scans(3))
    assert (some.config.network, some.config.data, some.config.loss) == (
        *(alone.config.network, alone.config.data, alone.config.loss),
    )
    assert some.atlas_subjects == 3


def test_too_few_scans_are_told_with_every_finding():
    found = Finding("s1", "cannot be used: it is cut off", left_out=True)
    with pytest.raises(
        InputError, match=r"1 scan can be trained on \(s1: cannot be used: it is cut off\); expected at"
    ):
        planned(scans(2), found)
    with pytest.raises(InputError, match="0 scans can be trained on; expected at least 2"):
        planned([])


def test_a_plan_is_read_as_it_was_written_and_every_setting_has_a_reason(tmp_path):
    plan = planned(scans(6, values=(1, 2), labels_mm=(9.0, 9.0, 9.0)), Finding("s3", 'is\na # "dup"', left_out=True))
    write_plan(tmp_path / "plan.toml", plan)
    read = read_plan(tmp_path / "plan.toml")
    assert read.config == plan.config and list(read.left_out) == ["s3"]
    assert plan_text(read) == plan_text(plan), "with its comments"
    assert (read.atlas_subjects, read.atlas_margin_mm) == (5, 2.2)
    assert all(choice.reason for choice in plan.choices)
    assert '"s3",  # is a # "dup"' in plan_text(plan)
    assert max(len(line) for line in plan_text(plan).splitlines()) <= 130


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[atlas]\nmargin = 3\n", "unknown setting atlas.margin; did you mean margin_mm"),
        ("[atlas]\nsubjects = 0\n", "atlas.subjects is 0; expected a whole number above zero"),
        ("[atlas]\nmargin_mm = -1\n", "atlas.margin_mm is -1"),
        ("atlas = 3\n", "atlas is 3; expected a table"),
        ("[scans]\nleave_out = 'm5'\n", "expected a list of subjects"),
        ("[training]\nstep = 3\n", "unknown setting training.step"),
        ("[loss]\nwindow_voxels = 4\n", "expected odd numbers"),
    ],
)
def test_a_plan_with_a_fault_is_refused_in_words(text, message, tmp_path):
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / 'plan.toml'))}: .*{message}"):
        read_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize(("sheets", "factor", "least", "most"), [(8, 2, 0.95, 1), (1, 1, 1, 1), (1, 2, 0.3, 0.8)])
def test_what_a_coarser_grid_leaves_of_labels_is_measured(sheets, factor, least, most):
    """Sheets of so many voxels: thick ones stay, of thin ones every second is lost or fills its neighbour."""
    labels = np.zeros((32, 32, 32), np.uint8)
    labels[:, :, :] = (np.arange(32) // sheets % 2)[:, None, None]
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((0.2, 0.2, 0.2))
    assert least <= kept_on_grid(image, factor) <= most


@pytest.mark.parametrize(("minutes", "told"), [(1.0, 1), (600.0, 0)])
def test_minutes_that_are_too_few_for_what_follows_the_training_are_named(minutes, told):
    labelled, said = scans(12, values=(1,), labels_mm=(30.0, 30.0, 30.0)), []
    about = Fingerprint(tuple(labelled), ()), AFFINE, lambda config: COST
    make_plan(*about, minutes=minutes, tell=said.append)
    assert len(said) == told
    assert all(
        "1 minute is too few: aligning, atlas and measuring take about" in text and ", the whole about" in text
        for text in said
    )


def test_of_many_scans_that_are_left_out_the_error_names_a_few():
    findings = tuple(Finding(f"s{n}", "cannot be used: " + "it is cut " * 30, left_out=True) for n in range(6))
    with pytest.raises(InputError) as caught:
        check_enough(Fingerprint((), findings))
    said = str(caught.value)
    assert len(said) < 600 and "s0: cannot be used: it is cut" in said and "s2: " in said and "s3: " not in said
    assert " …)" in said and "expected at least 2" in said
