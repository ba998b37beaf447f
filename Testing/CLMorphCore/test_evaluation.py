"""Accuracy on labelled subjects: rows, summary, files."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore import segmentation
from CLMorphCore.bundles.atlas import Atlas, Structure
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import InputError
from CLMorphCore.evaluation import evaluate
from CLMorphCore.io.manifest import Subject
from CLMorphCore.metrics import dice_per_label


@pytest.fixture(scope="module")
def subjects(atlas, tmp_path_factory):
    """Two labelled subjects of the test split, one of them without structure 3, one without labels, one to train on."""
    folder = tmp_path_factory.mktemp("subjects")
    made = []
    for seed, split in enumerate(("test", "test", "test", "train")):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        values = sitk.GetArrayFromImage(phantom.labels)
        if seed == 1:
            values[values == 3] = 0
            values[0, 0, 0] = 77  # a structure that the atlas does not know
        labels = sitk.GetImageFromArray(values)
        labels.CopyInformation(phantom.labels)
        sitk.WriteImage(phantom.image, str(folder / f"{seed}.nii.gz"))
        sitk.WriteImage(labels, str(folder / f"{seed}-labels.nii.gz"))
        path = folder / f"{seed}-labels.nii.gz" if seed != 2 else None
        made.append(Subject(f"s{seed}", folder / f"{seed}.nii.gz", path, split))
    return made


@pytest.fixture(scope="module")
def evaluated(model, subjects):
    told = []
    found = evaluate(model, subjects, progress=lambda step, fraction: told.append(fraction))
    assert told == sorted(told) and min(told) >= 0 and max(told) <= 1
    return found


def test_every_structure_of_a_subject_is_measured_and_one_that_the_atlas_lacks_counts_as_dice_zero(evaluated):
    shared = [("s0", 1), ("s0", 2), ("s0", 3), ("s1", 1), ("s1", 2)]
    assert [(r.subject, r.value) for r in evaluated.rows] == [*shared, ("s1", 77)]
    found, lacking = evaluated.rows[:-1], evaluated.rows[-1]
    assert all(0.6 < r.dice <= 1 and 0.6 < r.dice_affine <= 1 and r.hd95_mm <= r.hd_mm < 6 for r in found)
    assert lacking.dice == lacking.dice_affine == 0 and lacking.status == "missing in the atlas"
    assert evaluated.summary.dice == pytest.approx(sum(r.dice for r in found) / 6)
    assert evaluated.summary.warnings == ("s1: the atlas lacks the label 77, which counts as Dice 0",)
    assert [r.name for r in evaluated.rows[:3]] == ["Left part", "Right part", "Back part"]


def test_the_figures_are_those_of_the_segmentation(evaluated, subjects, clmorph, tiny_model, tmp_path):
    assert clmorph("segment", subjects[0].image, "--model", tiny_model, "-o", tmp_path / "out").code == 0
    labels, truth = (sitk.ReadImage(str(p)) for p in (tmp_path / "out" / "labels.nii.gz", subjects[0].labels))
    expected = dice_per_label(labels, truth)
    assert [r.dice for r in evaluated.rows[:3]] == pytest.approx([expected[v] for v in (1, 2, 3)])


def test_the_summary_is_the_mean_over_rows(evaluated):
    summary = evaluated.summary
    assert summary.subjects == 2 and summary.model == "tiny" and summary.split == "test"
    for figure in ("dice", "dice_affine", "hd95_mm", "assd_mm"):
        assert getattr(summary, figure) == pytest.approx(np.nanmean([getattr(r, figure) for r in evaluated.rows]))
    means = [np.mean([r.dice for r in evaluated.rows if r.subject == s]) for s in ("s0", "s1")]
    assert summary.dice_sd_over_subjects == pytest.approx(np.std(means))
    assert 0 <= summary.folding_fraction_mean <= summary.folding_fraction_max <= 1


def test_what_the_atlas_needs_is_made_once_for_all_subjects(model, subjects, monkeypatch):
    calls = []
    prepare = segmentation.prepare
    monkeypatch.setattr(segmentation, "prepare", lambda *arguments: calls.append(1) or prepare(*arguments))
    evaluate(model, [*subjects, replace(subjects[0], name="again")])
    assert len(calls) == 1


def test_the_command_writes_table_summary_and_page(subjects, clmorph, tiny_model, tmp_path):
    rows = "".join(f"{s.name},{s.image},{s.labels or ''},{s.split}\n" for s in subjects)
    (tmp_path / "data.csv").write_text("subject,image,labels,split\n" + rows, encoding="utf-8")
    ran = clmorph("evaluate", "--model", tiny_model, "--data", tmp_path / "data.csv", "-o", tmp_path / "out")
    assert ran.code == 0 and "over 2 subjects" in ran.out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"results.csv", "summary.json", "report.html"}
    with (tmp_path / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert "warning: s1: the atlas lacks the label 77" in ran.err
    assert len(written) == 6 and written[0]["name"] == "Left part" and 0 < float(written[0]["dice"]) <= 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert f"Dice {summary['dice']:.3f}" in ran.out


def test_a_structure_that_was_not_found_counts_as_zero(model, subjects, atlas, tmp_path):
    phantom = make_phantom(atlas, seed=0)
    values = sitk.GetArrayFromImage(phantom.labels)
    values[values == 3] = 0
    values[:2, :2, :2] = 3  # far from where the atlas has it
    labels = sitk.GetImageFromArray(values)
    labels.CopyInformation(phantom.labels)
    sitk.WriteImage(labels, str(tmp_path / "l.nii.gz"))
    found = evaluate(model, [Subject("s", subjects[0].image, tmp_path / "l.nii.gz", "test")])
    assert found.rows[2].dice == 0 and found.summary.dice < 0.7 and math.isfinite(found.summary.dice)


def test_labels_may_be_as_large_as_32_bits_hold(model, subjects, atlas, tmp_path):
    large = 3_000_000_000
    labels = sitk.Cast(sitk.ReadImage(str(subjects[0].labels)), sitk.sitkUInt32)
    sitk.WriteImage(sitk.Cast(labels == 2, sitk.sitkUInt32) * large, str(tmp_path / "l.nii.gz"))
    own = Atlas(
        "large",
        atlas.image,
        sitk.Cast(atlas.labels == 2, sitk.sitkUInt32) * large,
        (Structure(large, "Right part", "#4f8fd8"),),
    )
    found = evaluate(model, [Subject("s", subjects[0].image, tmp_path / "l.nii.gz", "test")], atlases=[own])
    assert [row.value for row in found.rows] == [large] and found.rows[0].dice > 0.6


def test_a_subject_that_is_among_the_atlases_is_said(model, subjects, atlas):
    own = Atlas("own", *(sitk.ReadImage(str(p)) for p in (subjects[0].image, subjects[0].labels)), atlas.structures)
    summary = evaluate(model, subjects, atlases=[own]).summary
    assert [text for text in summary.warnings if "is an atlas" in text] == [
        "s0 is an atlas here: what its own labels give it tells nothing of other scans"
    ]


def test_labels_of_a_part_of_the_scan_are_said(model, subjects, tmp_path):
    labels = sitk.ReadImage(str(subjects[0].labels))
    sitk.WriteImage(labels[:, :, : labels.GetSize()[2] // 2], str(tmp_path / "half.nii.gz"))
    share = 100 * (labels.GetSize()[2] // 2) / labels.GetSize()[2]
    half = Subject("half", subjects[0].image, tmp_path / "half.nii.gz", "test")
    assert evaluate(model, [subjects[0], half]).summary.warnings == (
        f"half: the labels' file covers {share:.3g}% of the scan's grid; outside of it all is taken as background",
    )


def test_nothing_to_evaluate_is_said(model, subjects):
    with pytest.raises(InputError, match="no labelled subject with split validation; nothing to evaluate"):
        evaluate(model, subjects, split="validation")
