"""The report says how good the labels are expected to be, why it does not know, and when not to trust them."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import match_images

from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.quality.evidence import CHECKS, FEATURES, Evidence, evidence
from CLMorphCore.quality.judgement import _warnings, verdict_of
from CLMorphCore.quality.score import fit, write_quality
from CLMorphCore.quality.uncertainty import alternative_displacements
from CLMorphCore.reports.report import QualityEntry
from CLMorphCore.segmentation import segment


@pytest.fixture(scope="module")
def trusted(model, atlas, tmp_path_factory):
    """The model with a fit to six made-up subjects of which all have a Dice of 0.9."""
    folder = tmp_path_factory.mktemp("trusted")
    cases = []
    for seed in range(6):
        found = match_images(make_phantom(atlas, seed=seed, deformation_mm=1.0).image, atlas.image, model)
        seen = evidence(found, atlas.labels, (1, 2, 3), alternative_displacements(model, found))
        cases.append((seen, np.full(3, 0.9) - 0.01 * seed))
    write_quality(folder / "quality.toml", fit(atlas.name, cases))
    return replace(model, folder=folder)


def test_a_good_case_has_numbers_a_map_and_no_warning(trusted, atlas, tmp_path):
    found = segment(make_phantom(atlas, seed=9, deformation_mm=1.0).image, trusted)
    for entry in found.report.structures:
        assert 0.7 < entry.quality < 0.95 and 0 <= entry.uncertainty < 0.5
    assert found.report.quality.outlier_score < 2 and found.report.quality.note == ""
    found.save(tmp_path)
    image = sitk.ReadImage(str(tmp_path / "uncertainty.nii.gz"))
    values = sitk.GetArrayViewFromImage(image)
    assert image.GetSize() == found.image.GetSize() and values.min() >= 0 and values.max() <= 1


def test_a_failed_affine_is_warned_of(trusted, phantom):
    wrong = sitk.AffineTransform(3)
    wrong.SetCenter(phantom.image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in phantom.image.GetSize()]))
    wrong.Rotate(0, 1, 1.2)
    wrong.Translate((12.0, 0.0, 0.0))
    found = segment(phantom.image, trusted, affine=wrong)
    assert found.report.quality.outlier_score > 1
    assert found.report.warnings[0].startswith("this scan is unlike those that the model was checked on: ")


def test_without_a_fit_there_is_no_score_and_the_report_says_so(model, phantom):
    found = segment(phantom.image, model, affine=sitk.AffineTransform(3))
    assert found.report.quality == QualityEntry(None, None, "no quality score: model tiny has no quality.toml")
    assert all(entry.quality is None and entry.uncertainty is not None for entry in found.report.structures)


def test_a_fit_for_another_atlas_is_not_used(trusted, phantom, atlas):
    several = [replace(atlas, name="one"), replace(atlas, name="two")]
    found = segment(phantom.image, trusted, atlases=several, affine=sitk.AffineTransform(3))
    assert found.report.quality.note == (
        "no quality score: it was fitted for the atlas ellipsoids alone, not for one, two"
    )
    assert found.uncertainty is not None, "the atlases' disagreement"


def test_a_fit_is_not_used_for_another_atlas_of_the_same_name(trusted, phantom, atlas):
    """An average of one's own is called as the model's: ``build-atlas -o …/average``."""
    values = sitk.GetArrayFromImage(atlas.labels)
    merged = sitk.GetImageFromArray(np.where(values == 2, 1, values))
    merged.CopyInformation(atlas.labels)
    own = replace(atlas, labels=merged, structures=tuple(s for s in atlas.structures if s.value != 2), shares=None)
    found = segment(phantom.image, trusted, atlases=[own], affine=sitk.AffineTransform(3))
    assert found.report.quality == QualityEntry(
        None, None, "no quality score: it was fitted for the model's own atlas ellipsoids, another one has its name"
    )
    assert all(entry.quality is None for entry in found.report.structures)


def test_a_fit_is_used_for_the_models_atlas_read_anew(trusted, phantom, atlas):
    copy = replace(atlas, image=sitk.Image(atlas.image), labels=sitk.Image(atlas.labels) + 0)
    found = segment(phantom.image, trusted, atlases=[copy], affine=sitk.AffineTransform(3))
    assert found.report.quality.verdict


def numbers(level, odd=0.0):
    structures, case = np.full((20, len(FEATURES)), level), np.full(len(CHECKS), 0.5)
    case[CHECKS.index("overlap")] -= odd
    return Evidence(tuple(range(1, 21)), structures, case)


def test_a_case_passes_needs_review_or_is_rejected_with_the_reason():
    random = np.random.default_rng(0)
    cases = []
    for n in range(20):
        found = numbers((n - 10) / 10)
        cases.append(
            (replace(found, case=found.case + random.normal(0, 0.02, len(CHECKS))), np.full(20, 0.75 + n / 100))
        )
    quality = fit("average", cases)
    assert verdict_of(quality, numbers(0.0)) == ("pass", "")
    one_in_twenty = numbers(0.0)
    one_in_twenty.structures[3] = -9.0
    assert verdict_of(quality, one_in_twenty)[0] == "pass"
    assert verdict_of(quality, numbers(-9.0)) == (
        "review",
        "lower quality than usual is expected of 20 of 20 structures",
    )
    unit = quality.outlier_score(numbers(0.0, odd=1.0))
    for odd, verdict in ((1.5, "review"), (2.5, "reject")):
        assert verdict_of(quality, numbers(0.0, odd / unit)) == (
            verdict,
            "this scan is unlike those that the model was checked on: atlas and scan do not cover each other",
        )


def test_the_report_has_the_verdict_and_intervals_around_what_is_expected(trusted, atlas):
    report = segment(make_phantom(atlas, seed=9, deformation_mm=1.0).image, trusted).report
    assert report.quality.verdict in ("pass", "review")
    for entry in report.structures:
        low, high = entry.quality_interval
        assert low <= entry.quality <= high


def test_the_command_says_the_verdict(trusted, tiny_model, atlas, clmorph, tmp_path):
    bundle = shutil.copytree(tiny_model, tmp_path / "bundle")
    shutil.copy(trusted.folder / "quality.toml", bundle)
    scan = tmp_path / "scan.nii.gz"
    sitk.WriteImage(make_phantom(atlas, seed=9, deformation_mm=1.0).image, str(scan))
    for model, told in ((bundle, r"report\.html; verdict: (pass|review)\n"), (tiny_model, r"report\.html\n")):
        ran = clmorph("segment", scan, "--model", model, "-o", tmp_path / model.name)
        assert ran.code == 0 and re.search(told, ran.out)


def test_a_score_that_is_shown_as_1_is_usual():
    """The report's 1.0 says "usual up to 1": the verdict must not call the scan unlike the others by what it drops."""
    rows = [
        (Evidence((1,), np.zeros((1, len(FEATURES))), np.full(len(CHECKS), 0.01 * n)), np.array([0.9]))
        for n in range(9)
    ]
    quality = fit("average", rows)
    found = rows[0][0]
    score = replace(quality, limit=1.0).outlier_score(found)
    for limit, verdict in ((score / 1.0004, "pass"), (score / 1.0006, "review"), (score / 2.0004, "review")):
        assert verdict_of(replace(quality, limit=limit), found)[0] == verdict


def test_reason_and_warning_count_the_same_structures(trusted, atlas):
    """A fit may know fewer structures than the atlas has: labels of its scans may all miss one."""
    cases = []
    for seed in range(4):
        seen = Evidence((1, 2, 3), np.full((3, len(FEATURES)), 0.1 * seed), np.zeros(len(CHECKS)))
        cases.append((seen, np.array([0.5 + 0.1 * seed, 0.5 + 0.1 * seed, np.nan])))
    quality = replace(fit(atlas.name, cases), limit=100.0)
    bad = replace(cases[0][0], structures=np.full((3, len(FEATURES)), -3.0))
    reason = verdict_of(quality, bad)[1]
    assert reason.endswith("2 of 2 structures")
    assert [each.startswith(reason) for each in _warnings(quality, bad, atlas.structures)] == [True]


def test_a_fit_that_knows_none_of_the_structures_gives_no_score(trusted, phantom, tmp_path):
    """Its file may have been changed by hand, or be of labels with other numbers."""
    text = (trusted.folder / "quality.toml").read_text(encoding="utf-8").replace("[structures.", "[structures.7")
    for changed in (text, f"{text.partition('[structures')[0]}[structures]"):
        (tmp_path / "quality.toml").write_text(changed, encoding="utf-8")
        found = segment(phantom.image, replace(trusted, folder=tmp_path), affine=sitk.AffineTransform(3))
        assert found.report.quality == QualityEntry(
            None, None, "no quality score: it was fitted for other structures than those of the atlas ellipsoids"
        )


def test_evidence_that_is_no_number_is_rejected():
    case = np.full(len(CHECKS), 0.5)
    same = [(Evidence((1,), np.zeros((1, len(FEATURES))), case + 0.01 * n), np.array([0.8])) for n in range(5)]
    nothing = Evidence((1,), np.zeros((1, len(FEATURES))), np.full(len(CHECKS), np.nan))
    quality = fit("average", same)
    assert verdict_of(quality, nothing)[0] == "reject" and quality.outlier_score(nothing) > 2
