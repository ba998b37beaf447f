"""The page of a training: what is doubtful about a model is at its top."""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from CLMorphCore.reports.evaluation import Summary
from CLMorphCore.reports.training import Point, TrainingRun, doubts, training_page

GOOD = Summary("m", "test", 3, 0.41, 0.73, 0.01, 2.0, 0.5, 0.0, 0.0, 1.0)
BAD = replace(GOOD, split="validation", dice=0.346, dice_affine=0.409)
AVERAGE = sitk.GetImageFromArray(np.arange(8 * 9 * 10, dtype=np.float32).reshape(8, 9, 10))


def page_of(**changes):
    run = TrainingRun("m", "", {"train": 3}, {}, [Point(1, 0.1, {})], AVERAGE, None, {}, [], {}, "# plan\n# about\n")
    return training_page(replace(run, **changes))


def test_a_model_no_better_than_the_affine_is_named_with_both_figures():
    (said,) = doubts({"test": GOOD, "validation": BAD})
    assert "no better than affine alignment alone on 3 scans of the validation split (Dice 0.346, affine 0.409)" in said
    assert said in page_of(accuracy={"validation": BAD})


def test_a_better_one_is_not():
    assert doubts({"test": GOOD}) == [] and "Doubts" not in page_of(accuracy={"test": GOOD})


def test_what_a_model_does_unasked_stands_beside_its_accuracy():
    page = page_of(habits=["Labels follow <it>."])
    assert page.index("Accuracy") < page.index("Labels follow &lt;it&gt;.") < page.index("The average")


def test_the_axis_has_room_for_small_numbers():
    log = [Point(n, float(n), {"regulariser": 0.000386 + n / 1e6}) for n in range(3)]
    assert '<text x="66" y="16" text-anchor="end">0.000388</text>' in page_of(log=log)  # eight digits of 8 pixels


def test_of_a_start_it_is_not_known_what_it_has_seen():
    text = "had seen any of them is not known"
    assert text in page_of(accuracy={"test": GOOD}, start="brain 1.5: its network")
    assert text not in page_of(accuracy={"test": GOOD})
