"""The page of one evaluation: every structure and subject, means over what exists, and what is missing named."""

import math
import re

import pytest

from CLMorphCore.metrics import MISSING_IN_PREDICTION, OK
from CLMorphCore.reports.evaluation import Agreement, Summary, evaluation_page

SUMMARY = Summary(
    model="hippocampus <2>",
    split="test",
    subjects=2,
    dice_affine=0.5,
    dice=0.575,
    dice_sd_over_subjects=0.1,
    hd95_mm=2.6,
    assd_mm=1.0,
    folding_fraction_mean=0.0002,
    folding_fraction_max=0.001,
    seconds=2.5,
)


def row(subject, value, name, dice, status=OK, hd95=2.0, dice_affine=0.5):
    return Agreement(subject, value, name, status, dice_affine, dice, 2 * hd95, hd95, 1.0, 5.0)


ROWS = [
    row("one", 1, "Anterior & front", 0.8, hd95=1.0),
    row("one", 2, "Posterior", 0.6, hd95=4.0),
    row("two", 1, "Anterior & front", 0.9, hd95=3.0),
    row("two", 2, "Posterior", 0.0, status=MISSING_IN_PREDICTION, hd95=math.nan),
]


@pytest.fixture(scope="module")
def html():
    return evaluation_page(ROWS, SUMMARY)


def test_needs_nothing_from_outside_and_is_escaped(html):
    assert not re.search(r"https?:|<script|<link|url\(", html) and html.isascii()
    assert "hippocampus &lt;2&gt;" in html and "Anterior &amp; front" in html


def cells(html, section, head):
    """The cells of the line that begins with `head` in a section."""
    part = html.split(f"<h2>{section}</h2>")[1].split("</section>")[0]
    line = next(line for line in re.findall(r"<tr.*?</tr>", part) if f">{head}" in line)
    return [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", line)]


def test_means_per_structure_are_over_the_subjects(html):
    found = cells(html, "By structure", "Anterior")
    assert found[1:4] == ["0.500 &#177; 0.000", "0.850 &#177; 0.071", "2.00 &#177; 1.41"]


def test_means_per_subject_are_over_the_structures(html):
    assert cells(html, "By subject", "one")[2:4] == ["0.700 &#177; 0.141", "2.50 &#177; 2.12"]


def test_a_missing_structure_is_named_and_counted(html):
    assert "1 of 4 missing in prediction" in html
    assert cells(html, "By structure", "Posterior")[-1] == "1 of 2"
    assert cells(html, "By structure", "Posterior")[3] == "4.00"
    assert cells(html, "All figures", "two</td><td>Posterior")[-1] == MISSING_IN_PREDICTION


def test_nothing_missing_means_no_warning():
    assert 'class="warning"' not in evaluation_page(ROWS[:3], SUMMARY)


def test_box_plots_show_quartiles_of_both_states():
    rows = [row(str(k), 1, "A", dice, dice_affine=dice / 2) for k, dice in enumerate((0.4, 0.5, 0.6, 0.7, 0.8))]
    html = evaluation_page(rows, SUMMARY)
    boxes = [tuple(map(float, pair)) for pair in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', html)]
    scale = 0.2 / boxes[1][1]
    assert len(boxes) == 2 and boxes[0][1] * scale == pytest.approx(0.1, abs=0.001)
    assert (boxes[1][0] - boxes[0][0]) * scale == pytest.approx(0.25, abs=0.001)


def test_outliers_are_dots():
    rows = [row(str(k), 1, "A", dice) for k, dice in enumerate((0.8, 0.81, 0.82, 0.83, 0.1))]
    assert evaluation_page(rows, SUMMARY).count("<circle") == 1
