"""The page of one segmentation: self-contained, complete, escaped, small; for any input."""

import base64
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.reports.drawing import FOLD_COLOR
from CLMorphCore.reports.report import Report
from CLMorphCore.reports.segmentation import Pictured, segmentation_page

IDENTITY = sitk.AffineTransform(3)
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Balance(HTMLParser):
    """Collects open tags, identities and references; fails on a tag that closes another."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.named, self.used = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self._note(dict(attrs))

    def handle_startendtag(self, tag, attrs):
        self._note(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def _note(self, attributes):
        if "id" in attributes:
            self.named.append(attributes["id"])
        if attributes.get("href", "").startswith("#"):
            self.used.append(attributes["href"][1:])


def parsed(page):
    result = Balance()
    result.feed(page)
    assert result.open == []
    return result


def report(**changes):
    entry = {
        "version": "0.1.0",
        "image": "scans/anna & bob.nii.gz",
        "created": "2026-03-04T15:06:00+01:00",
        "model": {"name": "hippocampus", "version": "1.0", "licence": "CC BY-SA 4.0", "commit": "abc1234"},
        "atlas": {"name": "average"},
        "device": "cpu",
        "threads": 2,
        "refinement_steps": 0,
        "structures": [
            {
                "value": 1,
                "name": "Anterior <i>part</i> & more",
                "color": "#d8654f",
                "terminology": "",
                "volume_ml": 1.2345,
                "quality": 0.87,
                "uncertainty": 0.043,
            },
            {
                "value": 2,
                "name": "Ångström's",
                "color": "#4f8fd8",
                "terminology": "",
                "volume_ml": 0.0,
                "quality": None,
                "uncertainty": None,
            },
        ],
        "quality": {"expected_dice": 0.87, "outlier_score": 0.4, "note": ""},
        "similarity": {"measure": "local normalised cross-correlation", "affine": 0.41, "warped": 0.67},
        "folding_fraction": 0.00031,
        "duration_s": {"reading": 0.3, "affine": 3.4, "total": 105.2},
        "warnings": [],
    }
    return Report.from_dict({**entry, **changes})


def page_of(images, report):
    return segmentation_page(Pictured(**images), report)


def scene(size=(24, 28, 20), spacing=(1.0, 1.0, 1.5), labelled=True, folded=False):
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in size[::-1]], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    image = sitk.GetImageFromArray((1000 * np.exp(-radius)).astype(np.float32))
    image.SetSpacing(spacing)
    labels = sitk.GetImageFromArray(((radius < 0.5) & labelled).astype(np.uint8))
    jacobian = sitk.GetImageFromArray(np.where((radius < 0.2) & folded, -0.1, 1.1).astype(np.float32))
    for other in (labels, jacobian):
        other.CopyInformation(image)
    return {
        "image": image,
        "labels": labels,
        "labels_affine": labels,
        "warped": image,
        "warped_affine": image,
        "jacobian": jacobian,
        "uncertainty": sitk.Cast(labels, sitk.sitkFloat32) * 0.5,
        "transform": IDENTITY,
        "affine": IDENTITY,
    }


@pytest.fixture(scope="module")
def html():
    return page_of(scene(), report=report())


def test_needs_nothing_from_outside(html):
    without_pictures = re.sub(r"base64,[^\"]+", "", html)
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\((?!#)", without_pictures)
    assert set(re.findall(r'href="([^"#]{1,22})', html)) == {"data:image/png;base64,"}


def test_is_balanced_and_every_reference_has_its_picture(html):
    found = parsed(html)
    assert len(found.named) == len(set(found.named))
    assert set(found.used) <= set(found.named)


def test_is_small_and_ascii(html):
    assert len(html) < 1_500_000
    assert html.isascii() and "&#197;ngstr&#246;m" in html


def test_names_are_escaped(html):
    assert "<i>part</i>" not in html and "Anterior &lt;i&gt;part&lt;/i&gt; &amp; more" in html
    assert "<title>Segmentation of anna &amp; bob.nii.gz</title>" in html


def test_tells_what_the_report_holds(html):
    text = " ".join(parsed(html).text)
    for wanted in ("CC BY-SA 4.0", "0.41 → 0.67", "0.031 %", "1.234", "not found", "1 of 2", "1 min 45 s", "abc1234"):
        assert wanted in text


def test_a_page_that_is_written_before_other_files_says_that_its_time_is_not_all(html):
    assert "files are written after it" in html  # report() has no seconds of writing
    whole = report(duration_s={"writing": 1.0, "total": 2.0})
    assert "files are written after it" not in page_of(scene(), whole)


def test_every_picture_is_described(html):
    assert html.count("<svg") == html.count('role="img" aria-label="')


def test_a_long_table_comes_after_the_pictures(html):
    entry = asdict(report().structures[0])
    many = [{**entry, "value": value} for value in range(1, 60)]
    long = page_of(scene(), report=report(structures=many))
    assert html.index(">Volumes<") < html.index(">Deformation<")
    assert long.index(">Volumes<") > long.index(">Deformation<")


def test_warnings_come_before_the_pictures():
    html = page_of(scene(), report=report(warnings=["The scan is cut off <below>"]))
    assert 0 < html.index("The scan is cut off &lt;below&gt;") < html.index("<svg")


def test_no_warning_without_one(html):
    assert 'class="warning"' not in html


def pictures(html, tmp_path):
    for number, data in enumerate(re.findall(r"data:image/png;base64,([^\"]+)", html)):
        path = tmp_path / f"{number}.png"
        path.write_bytes(base64.b64decode(data))
        yield sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def has_fold_mark(html, tmp_path):
    return any(
        (picture[..., :3] == FOLD_COLOR).all(axis=-1).any() for picture in pictures(html, tmp_path) if picture.ndim == 3
    )


def test_folds_are_marked_where_there_are_any(html, tmp_path):
    folded = page_of(scene(folded=True), report=report())
    assert has_fold_mark(folded, tmp_path) and "folded" in folded
    assert not has_fold_mark(html, tmp_path) and "no fold" in html


def test_a_small_structure_is_enlarged_and_its_place_shown():
    large = scene(size=(90, 90, 60))
    labels = sitk.Image(large["labels"] * 0)
    labels[40:50, 40:50, 28:34] = 1
    html = page_of({**large, "labels": labels}, report=report())
    assert html.count('class="part"') == 3


def test_nothing_found_still_gives_a_page():
    html = page_of(scene(labelled=False), report=report())
    parsed(html)


def test_many_structures_and_figures_that_are_missing():
    structures = [
        {
            "value": v,
            "name": f"Region {v}",
            "color": "#808080",
            "terminology": "",
            "volume_ml": 1.0,
            "quality": None,
            "uncertainty": 0.1,
        }
        for v in range(1, 99)
    ]
    similarity = {"measure": "local normalised cross-correlation", "affine": float("nan"), "warped": None}
    html = page_of(scene(), report=report(structures=structures, similarity=similarity))
    assert html.count("Region ") == 98
    assert "– → –" in " ".join(parsed(html).text)


def test_left_handed_oblique_and_thick_slices_are_drawn():
    images = scene(size=(24, 28, 6), spacing=(1.2, 1.2, 8.0))
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), 0.2, 0.1, -0.3).GetMatrix()).reshape(3, 3) * (1, -1, 1)
    for image in images.values():
        if isinstance(image, sitk.Image):
            image.SetDirection(turn.ravel().tolist())
    parsed(page_of(images, report=report()))


def test_quality_and_uncertainty_are_shown(html):
    assert ">0.87<" in html and ">0.04<" in html and ">Uncertainty</h2>" in html
    assert html.index(">Before and after<") < html.index(">Uncertainty</h2>") < html.index(">Deformation<")


def test_without_a_score_the_page_says_why():
    page = page_of(
        scene() | {"uncertainty": None},
        report=report(
            quality={
                "expected_dice": None,
                "outlier_score": None,
                "note": "no quality score: model x has no quality.toml",
            }
        ),
    )
    assert "model x has no quality.toml" in page and ">Uncertainty</h2>" not in page


def test_the_verdict_comes_first_with_its_reason_and_intervals_stand_beside_what_is_expected():
    told = report()
    quality = replace(told.quality, verdict="review", reason="the atlas <b>hardly</b> resembles the scan")
    first = replace(told.structures[0], quality_interval=(0.81, 0.912))
    told = replace(told, quality=quality, structures=(first, *told.structures[1:]))
    page = page_of(scene(), report=told)
    assert page.index(">Verdict<") < page.index(">Structures found<")
    assert ">review<" in page and "the atlas &lt;b&gt;hardly&lt;/b&gt; resembles the scan" in page
    assert ">0.81 &#8211; 0.91<" in page and ">90 % interval<" in page
    passed = replace(told, quality=replace(quality, verdict="pass", reason=""))
    assert "nothing unusual was found" in page_of(scene(), report=passed)


def test_without_a_verdict_nothing_is_claimed(html):
    assert ">Verdict<" not in html and "90 % interval" not in html


def test_an_odd_scan_is_told_beside_the_figure():
    page = page_of(scene(), report=report(quality={"expected_dice": 0.5, "outlier_score": 3.0, "note": ""}))
    assert "outlier score of the scan 3.00, above 1: look first" in page
    for score, told in ((1.0, "1.000, usual up to 1"), (1.003, "1.003, above 1: look first"), (0.984, "0.98, usual")):
        quality = {"expected_dice": 0.5, "outlier_score": score, "note": ""}
        assert f"outlier score of the scan {told}" in page_of(scene(), report=report(quality=quality))
    assert "before the refinement" not in page
    assert "without labels and before the refinement" in page_of(scene(), report=report(refinement_steps=90))


def test_a_mouse_is_not_called_a_patient():
    page = page_of(scene(), report=report())
    assert "patient's" not in page and "warped onto the scan" in page
