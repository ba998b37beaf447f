"""Which scans are left alone, which brains are believed, and what a mask of the user's does."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import off_grid

from CLMorphCore.errors import InputError
from CLMorphCore.extraction.brain import Brain
from CLMorphCore.extraction.recognise import check_brain, check_scan, check_upright, shown
from CLMorphCore.extraction.step import taken_out
from CLMorphCore.io.volume import add_warning, warnings_of
from CLMorphCore.progress import Stopwatch, silent

Z, Y, X = np.indices((90, 110, 100), dtype=float) * 2 - np.array([90, 110, 100])[:, None, None, None]
BRAIN = (Z / 62) ** 2 + (Y / 82) ** 2 + (X / 66) ** 2 < 1
HEAD = ((Z + 20) / 95) ** 2 + (Y / 98) ** 2 + (X / 80) ** 2 < 1
TEXTURE = np.random.default_rng(5).normal(1, 0.1, BRAIN.shape).clip(0.5, 1.5)
RIM = ((Z / 70) ** 2 + (Y / 90) ** 2 + (X / 74) ** 2 < 1) & ~BRAIN


def scan(values):
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing((2.0, 2.0, 2.0))
    return image


def brain_values():
    return np.where(BRAIN, np.where(((Z / 45) ** 2 + (Y / 60) ** 2 + (X / 48) ** 2) < 1, 1000.0, 700.0), 0.0) * TEXTURE


def head_values():
    return np.where(BRAIN, brain_values(), np.where(RIM, 100.0, np.where(HEAD, 600.0, 0.0)) * TEXTURE)


def background(kind):
    noise = np.random.default_rng(3)
    return {
        "padding": 0.0,
        "faint noise": noise.normal(0, 4, BRAIN.shape),
        "ringing": 8 * np.sin(X / 3) * np.exp(-np.abs(Y) / 50),
    }[kind]


def done(image, extraction, needed=True):
    return taken_out(image, extraction, needed, "cpu", Stopwatch(), silent)


@pytest.mark.parametrize("kind", ["padding", "faint noise", "ringing"])
def test_a_stripped_scan_is_left_alone_whatever_its_background(kind):
    image = scan(brain_values() + background(kind))
    found = done(image, "auto")
    assert found.image is image and found.mask is None
    assert found.entry.method == "stripped already"
    assert found.entry.volume_ml == pytest.approx(BRAIN.sum() * 8 / 1000, rel=0.05)


@pytest.mark.parametrize("kind", ["padding", "faint noise"])
def test_a_head_is_no_brain_alone(kind):
    assert not shown(scan(head_values() + background(kind))).is_a_brain_alone()


def test_a_brain_in_a_head_is_believed_and_what_is_none_is_refused():
    def check(values, region):
        mask = sitk.GetImageFromArray(region.astype(np.uint8))
        mask.SetSpacing((2.0, 2.0, 2.0))
        check_brain(scan(values), Brain(mask, 0.0, 0.995))

    check(head_values(), BRAIN)
    with pytest.raises(InputError, match="ends within the brain"):
        check(head_values()[:60], BRAIN[:60])
    with pytest.raises(InputError, match=r"no brain was found.* ml"):
        check(head_values(), HEAD)
    flat = np.where(BRAIN, 1000.0, head_values())
    with pytest.raises(InputError, match="no tissues of a brain"):
        check(flat, BRAIN)


def test_ct_and_small_scans_are_refused_in_one_line():
    with pytest.raises(InputError, match="values are those of CT"):
        check_scan(scan(np.where(HEAD, 40.0, -1000.0)))
    with pytest.raises(InputError, match="70 mm in each direction"):
        check_scan(scan(np.ones((20, 20, 20))))


def test_off_and_models_that_need_no_brain_leave_a_head_as_it_is():
    image = scan(head_values())
    for found in (done(image, "off"), done(image, "auto", needed=False)):
        assert found.image is image and found.mask is None and found.entry is None


def test_a_mask_of_the_users_is_what_remains_and_has_to_fit():
    image, mask = scan(head_values()), scan(BRAIN * 3)
    found = done(image, mask, needed=False)
    assert found.entry.method == "mask" and found.entry.volume_ml == pytest.approx(BRAIN.sum() * 8 / 1000)
    assert np.allclose(sitk.GetArrayFromImage(found.image), brain_values())
    assert set(np.unique(sitk.GetArrayFromImage(found.mask))) == {0, 1}
    with pytest.raises(InputError, match="another grid"):
        done(image, off_grid(mask), needed=False)
    with pytest.raises(InputError, match="empty"):
        done(image, mask * 0)
    with pytest.raises(InputError, match="brain_extraction=of"):
        done(image, "of")


def test_what_is_doubtful_about_a_mask_is_said():
    image, right = scan(head_values()), scan(BRAIN)
    assert warnings_of(done(image, right).mask) == ()
    shell = scan(BRAIN & ((Z / 52) ** 2 + (Y / 69) ** 2 + (X / 55) ** 2 > 1))
    (said,) = warnings_of(done(image, shell).mask)
    assert "not the shape of a brain's" in said
    assert warnings_of(done(image, shell, needed=False).mask) == ()  # of any organ
    add_warning(right, "its two forms disagree")
    assert warnings_of(done(image, right).mask) == ("the brain's mask: its two forms disagree",)


@pytest.mark.parametrize("factor", [0.2, 3.0])
def test_a_mask_that_no_brain_fits_is_refused_where_a_brain_is_needed(factor):
    image, mask = scan(head_values()), scan(BRAIN)
    for one in (image, mask):
        one.SetSpacing([2.0 * factor ** (1 / 3)] * 3)
    with pytest.raises(InputError, match=r"the brain's mask is of .* ml; expected a brain, 500 to 2300 ml"):
        done(image, mask)
    assert done(image, mask, needed=False).entry.method == "mask"


def lopsided():
    """A brain whose front, top and left side differ from its back, bottom and right side."""
    parts = BRAIN & ((Z > 20) & (Y < -10) | (X > 25) & (Z < 0) | (Y > 45))
    return scan(np.where(parts, 400.0, 1.0) * (BRAIN * 1.0) * TEXTURE + 500 * BRAIN)


@pytest.mark.parametrize("flipped", [(1, 2), (0, 1), (0, 2)])
def test_a_header_that_turns_the_head_over_is_refused(flipped):
    atlas = lopsided()
    values = np.flip(sitk.GetArrayFromImage(atlas), flipped)
    with pytest.raises(InputError, match=r"turned by about 1[78].° to what its header says"):
        check_upright(scan(values), atlas)


def test_axes_in_another_order_than_the_header_says_are_refused():
    atlas = lopsided()
    with pytest.raises(InputError, match=r"lies turned by about 1[12].° to what its header says"):
        check_upright(scan(sitk.GetArrayFromImage(atlas).transpose(1, 2, 0)), atlas)


@pytest.mark.parametrize("axis", range(3))
def test_a_tilted_head_is_none_that_is_turned_over(axis):
    atlas = lopsided()
    tilt = sitk.VersorTransform(np.eye(3)[axis].tolist(), np.deg2rad(30))
    tilted = sitk.Resample(atlas, atlas, tilt, sitk.sitkLinear, 0.0)
    check_upright(sitk.PermuteAxes(tilted, [2, 0, 1]), atlas)  # stored in another order, as its header says


def test_what_fits_the_atlas_turned_over_as_well_is_no_brain():
    with pytest.raises(InputError, match="no brain was found in the scan: turned over"):
        check_upright(scan(500.0 * BRAIN * TEXTURE), lopsided())
