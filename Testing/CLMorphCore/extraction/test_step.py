"""Which scans are left alone, which brains are believed, and what a mask of the user's does."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.errors import InputError
from CLMorphCore.extraction.brain import Brain
from CLMorphCore.extraction.recognise import check_brain, check_scan, shown
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
        done(image, mask[:50], needed=False)
    with pytest.raises(InputError, match="empty"):
        done(image, mask * 0)
    with pytest.raises(InputError, match="brain_extraction=of"):
        done(image, "of")


def test_what_is_doubtful_about_a_mask_is_said():
    image, right = scan(head_values()), scan(BRAIN)
    assert warnings_of(done(image, right).mask) == ()
    for wrong in (scan(~BRAIN), scan(BRAIN & (np.abs(X) < 10) & (np.abs(Y) < 20))):
        (said,) = warnings_of(done(image, wrong).mask)
        assert "not the size and shape of a brain's" in said
        assert warnings_of(done(image, wrong, needed=False).mask) == ()  # of any organ
    add_warning(right, "its two forms disagree")
    assert warnings_of(done(image, right).mask) == ("the brain's mask: its two forms disagree",)
