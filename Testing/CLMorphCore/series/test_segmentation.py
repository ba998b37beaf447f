"""A heart that beats: frames follow the one that is segmented, and what they enclose is what was put in."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up_heart import COUNT, ES, FIRST, left_ml, noisy

from CLMorphCore import load_model, segment_series
from CLMorphCore.errors import Cancelled, InputError
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.progress import Stopwatch, silent
from CLMorphCore.registration import Registration
from CLMorphCore.series.following import Followed, follow
from CLMorphCore.series.segmentation import max_closing_mm


@pytest.fixture(scope="session")
def found(cine, heart):
    """All frames; the first is in the middle of a beat, end-diastole has to be found."""
    return segment_series(cine.series, heart, affine=sitk.AffineTransform(3), tissue="off", keep_transforms=True)


def test_end_diastole_is_found_and_segmented_and_every_frame_follows(found, cine):
    assert found.key == FIRST and found.numbers == tuple(range(COUNT))
    scores = [dice_per_label(ours, true) for ours, true in zip(found.labels, cine.truth, strict=True)]
    print("\nDice at end-systole", scores[ES], "worst", min(score[3] for score in scores))
    assert min(score[3] for score in scores) > 0.93 and min(score[1] for score in scores) > 0.93


def test_a_hearts_function_is_that_of_the_volumes_that_were_put_in(found):
    left = next(one for one in found.heart if one.side == "left")
    edv, esv = left_ml(FIRST), left_ml(ES)
    print(f"\nejection fraction {left.ejection_fraction:.3f}, put in {1 - esv / edv:.3f}")
    assert (left.end_diastole, left.end_systole) == (FIRST, ES)
    assert left.edv_ml == pytest.approx(edv, rel=0.05)
    assert left.ejection_fraction == pytest.approx(1 - esv / edv, abs=0.06)
    assert [found.volumes_ml[n][3] for n in range(COUNT)] == pytest.approx([left_ml(n) for n in range(COUNT)], rel=0.1)


def test_the_two_ways_round_the_beat_end_in_one_place(found):
    series = found.report.series
    print(f"\nclosing error {series.closing_mean_mm:.2f} mm, at most {series.closing_max_mm:.2f}")
    assert series.closing_mean_mm < 0.5


def test_labels_are_those_of_the_one_segmentation_along_the_kept_transforms(found):
    """By ITK's own interpolator, which takes the label of the largest weight too."""
    labels = found.segmentation.labels
    for n in (0, ES):
        carried = sitk.Resample(labels, labels, found.transforms[n], sitk.sitkLabelLinear)
        differs = sitk.GetArrayFromImage(carried) != sitk.GetArrayFromImage(found.labels[n])
        assert differs.mean() < 1e-3


def test_labels_of_a_heart_that_stands_still_do_not_jump(cine, heart):
    still = [noisy(cine.series.frames[FIRST], seed) for seed in (10, 11)]
    found = segment_series(still, heart, frames="1,2", affine=sitk.AffineTransform(3), tissue="off")
    volumes = [found.volumes_ml[n][3] for n in range(2)]
    assert np.ptp(volumes) < 0.02 * volumes[0]
    assert dice_per_label(found.labels[0], found.labels[1])[3] > 0.97


def test_only_the_frames_that_are_asked_for_follow_the_first_of_them(cine, heart, monkeypatch):
    warped = []
    original = Registration.warp
    monkeypatch.setattr(Registration, "warp", lambda self, *a, **k: warped.append(1) or original(self, *a, **k))
    found = segment_series(cine.series, heart, frames=[5, 2], affine=sitk.AffineTransform(3), tissue="off")
    assert (found.key, found.numbers, sorted(found.volumes_ml)) == (4, (1, 4), [1, 4])
    assert found.heart == ()  # of two frames nobody knows whether they are the extremes
    assert len(warped) == 2


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ("9", "names frame 9 of a series of 6; expected 1 … 6"),
        ("0", "has '0'; expected all, ed, es or numbers"),
        ("ed;es", "has 'ed;es'"),
        ("1,,2", "has ''"),
        ([], "names none"),
        ("1-3", "has '1-3'"),
    ],
)
def test_frames_that_are_not_there_are_refused_before_any_work(frames, said, cine, heart, monkeypatch):
    monkeypatch.setattr("CLMorphCore.series.segmentation.segment", None)
    with pytest.raises(InputError, match=said):
        segment_series(cine.series, heart, frames=frames)
    with pytest.raises(InputError, match="asks for ed, and the image has one frame"):
        segment_series(cine.series.only([0]), heart, frames="ed")


def test_phases_of_what_is_no_heart_are_refused(phantom, model):
    with pytest.raises(InputError, match="none of the labels is a heart's left ventricle"):
        segment_series([phantom.image] * 2, model, frames="ed,es", following=None)


def test_it_can_be_cancelled_between_frames(cine, heart):
    def stop(step, fraction):
        if step.startswith("frame"):
            raise Cancelled

    with pytest.raises(Cancelled):
        segment_series(cine.series, heart, affine=sitk.AffineTransform(3), tissue="off", progress=stop)


def test_progress_ascends_to_the_end(found, cine, heart):
    told = []
    segment_series(
        cine.series,
        heart,
        frames="3,ed",
        affine=sitk.AffineTransform(3),
        tissue="off",
        following=None,
        progress=lambda step, fraction: told.append(fraction),
    )
    assert told == sorted(told) and told[-1] <= 1 and len(told) >= COUNT


def test_no_steps_leave_every_frame_at_the_networks_own_answer(cine, heart_folder):
    frames, model = cine.series.frames, load_model(heart_folder)
    torch.manual_seed(0)
    for weights in model.network.parameters():  # fresh ones answer that nothing moves
        torch.nn.init.normal_(weights, std=0.1)
    point = frames[0].TransformContinuousIndexToPhysicalPoint((20.0, 14.0, 13.0))
    moved = []
    for optimization in (None, InstanceOptimization(0)):  # as of --effort fast
        options = {"labels": None, "cyclic": True, "optimization": optimization, "progress": silent}
        found = follow(frames, FIRST, range(COUNT), model, watch=Stopwatch(), **options)
        maps = {one.frame: one.registration.transform for one in found if isinstance(one, Followed)}
        moved.append([maps[frame].TransformPoint(point) for frame in sorted(maps)])
    assert moved[0] == moved[1] and len(set(moved[0])) == COUNT - 1 and point not in moved[0]


@pytest.mark.parametrize(("voxel_mm", "most_mm"), [(4.0, 2.0), (0.25, 0.2)], ids=["a person's", "a mouse's"])
def test_how_far_apart_the_ways_round_a_beat_may_end_goes_by_the_heart(voxel_mm, most_mm):
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[5:25, 10:20, 10:20] = 1
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing([voxel_mm] * 3)
    assert max_closing_mm(image) == pytest.approx(most_mm)
