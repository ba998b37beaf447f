"""A results folder holds what was added to it, whole runs only, whatever happened while it was written."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.errors import InputError
from Training.experiments import store
from Training.experiments.catalogue import RunKey
from Training.experiments.store import (
    BY_PRODUCT,
    SEGMENTATION,
    DeformationRow,
    Example,
    RegionRow,
    Run,
    add,
    example_path,
    load,
)

RUN = Run(
    "acdc",
    "clmorph",
    "alpha=0.1,beta=1",
    3,
    2.5,
    '{"loss": {"smooth": 1.0}}',
    "abc1234",
    "2025-01-02T03:04:05",
    "cpu",
    1,
    400_000,
    120,
    149.5,
    0.75,
    '{"similarity": 0.25}',
)


def rows(run):
    return [
        RegionRow(run, SEGMENTATION, "one", 1, "left, ventricle", "ok", 0.9, 5.0, 3.0, 1.0),
        RegionRow(run, BY_PRODUCT, "one", 1, "left, ventricle", "missing in prediction", 0.0, *[math.nan] * 3),
    ]


def deformation(run):
    return [DeformationRow(run, SEGMENTATION, "one", 0.001, 0.1, math.nan, 0.5)]


def test_what_was_added_is_loaded(tmp_path):
    add(tmp_path / "new", RUN, rows(RUN.name), deformation(RUN.name))
    found = load(tmp_path / "new")
    assert found.runs == (RUN,) and found.has("acdc/clmorph/alpha=0.1,beta=1/seed3/2.5min")
    assert found.regions[0] == rows(RUN.name)[0]
    assert math.isnan(found.regions[1].hd_mm) and found.regions[1].status == "missing in prediction"
    assert math.isnan(found.deformations[0].inverse_consistency_mm)


def test_empty_folder_has_no_runs(tmp_path):
    assert load(tmp_path / "nothing").runs == () and not load(tmp_path).has(RUN.name)


def test_columns_are_the_contract(tmp_path):
    add(tmp_path, RUN, rows(RUN.name), deformation(RUN.name))
    heads = {name: next(csv.reader((tmp_path / f"{name}.csv").open())) for name in ("runs", "regions", "deformations")}
    assert heads["runs"][:6] == ["run", "dataset", "system", "variant", "seed", "budget_minutes"]
    assert heads["regions"][:2] == heads["deformations"][:2] == ["run", "direction"]


def test_rows_of_a_run_that_was_killed_are_dropped_and_then_removed(tmp_path, monkeypatch):
    add(tmp_path, RUN, rows(RUN.name), deformation(RUN.name))
    second = replace(RUN, seed=4)
    write = store.write_rows

    def killed_before_the_last(path, kind, rows, **options):
        if path.name == "runs.csv":
            raise KeyboardInterrupt
        write(path, kind, rows, **options)

    monkeypatch.setattr(store, "write_rows", killed_before_the_last)
    with pytest.raises(KeyboardInterrupt):
        add(tmp_path, second, rows(second.name), deformation(second.name))
    monkeypatch.undo()
    assert second.name in (tmp_path / "regions.csv").read_text(encoding="utf-8")
    assert load(tmp_path).runs == (RUN,) and {row.run for row in load(tmp_path).regions} == {RUN.name}
    add(tmp_path, replace(RUN, seed=5), rows(RunKey("acdc", "clmorph", RUN.variant, 5, 2.5).name), [])
    assert second.name not in (tmp_path / "regions.csv").read_text(encoding="utf-8")
    add(tmp_path, second, rows(second.name), deformation(second.name))
    assert len(load(tmp_path).regions) == 6


def test_a_run_is_added_once_and_with_its_own_rows(tmp_path):
    add(tmp_path, RUN, rows(RUN.name), [])
    with pytest.raises(InputError, match="already"):
        add(tmp_path, RUN, rows(RUN.name), [])
    other = replace(RUN, seed=9)
    with pytest.raises(InputError, match="came with the run"):
        add(tmp_path, other, rows(RUN.name), [])
    with pytest.raises(InputError, match="no row"):
        add(tmp_path, other, [], [])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "of_row"), [("runs", ""), ("regions", ", segmentation, one, 1"), ("deformations", ", segmentation, one")]
)
def test_a_row_that_is_there_twice_is_refused(tmp_path, name, of_row):
    """A row pasted twice counted as two seeds, or two measurements."""
    add(tmp_path, RUN, rows(RUN.name), deformation(RUN.name))
    file = tmp_path / f"{name}.csv"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load(tmp_path)
    said = str(refused.value)
    assert f"{file} has two rows of {RUN.name}{of_row};" in said and said.endswith("delete one of the rows")


@pytest.mark.parametrize(
    ("name", "kept", "lacks"),
    [
        ("regions", 4, r"regions\.csv lacks the region 2 of two"),
        ("regions", 3, r"regions\.csv lacks two"),
        ("regions", 1, r"regions\.csv lacks one"),
        ("deformations", 2, r"deformations\.csv lacks two"),
    ],
)
def test_a_file_that_was_cut_short_is_no_whole_run(tmp_path, name, kept, lacks):
    """What was left counted as the measurement of all subjects."""
    measured = [
        replace(rows(RUN.name)[0], subject=subject, region=region) for subject in ("one", "two") for region in (1, 2)
    ]
    moved = [replace(deformation(RUN.name)[0], subject=subject) for subject in ("one", "two")]
    add(tmp_path, RUN, measured, moved)
    assert len(load(tmp_path).regions) == 4
    file = tmp_path / f"{name}.csv"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:kept]), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{lacks} in the run acdc/clmorph/.* was the file cut short"):
        load(tmp_path)


@pytest.mark.parametrize("losses", ["none", "", "[1.0]", '{"contrast": "low"}'])
def test_losses_that_are_no_numbers_by_name_are_refused(tmp_path, losses):
    add(tmp_path, replace(RUN, losses=losses), rows(RUN.name), [])
    with pytest.raises(InputError, match=r"runs.csv has the losses .* of the run acdc/clmorph/.*; expected JSON"):
        load(tmp_path)


def images():
    """A box of label 1 in an anisotropic volume, brighter towards the left (+x)."""
    values = np.zeros((6, 24, 20), np.uint8)
    values[2:4, 8:16, 6:12] = 1
    labels = sitk.GetImageFromArray(values)
    image = sitk.GetImageFromArray(np.broadcast_to(np.arange(20, dtype=np.float32), (6, 24, 20)).copy())
    for volume in (labels, image):
        volume.SetSpacing((1.0, 1.0, 4.0))
    return image, labels


def test_an_example_shows_the_deformation_without_the_affine(tmp_path):
    image, labels = images()
    affine = sitk.AffineTransform(3)
    affine.Rotate(0, 1, 0.3)
    affine.SetTranslation((5.0, 0.0, 0.0))
    transform = sitk.CompositeTransform([affine, sitk.TranslationTransform(3, (2.0, 0.5, -1.0))])
    example = Example.cut("one", image, labels, labels, warped=image, transform=transform, affine=affine)
    assert [plane.name for plane in example.planes] == ["axial", "coronal", "sagittal"]
    axial, coronal, sagittal = example.planes
    assert axial.expected.sum() == 8 * 6 and axial.image[0, -1] > axial.image[0, 0]
    for plane, down, right in ((axial, 0.5, 2.0), (coronal, 1.0, 2.0), (sagittal, 1.0, 0.5)):
        np.testing.assert_allclose(plane.displacement_mm[0], down, atol=1e-5)
        np.testing.assert_allclose(plane.displacement_mm[1], right, atol=1e-5)
    example.save(example_path(tmp_path, RUN.name))
    again = Example.load(example_path(tmp_path, RUN.name))
    assert again.subject == "one" and again.planes[1].pixel_mm == coronal.pixel_mm
    np.testing.assert_array_equal(again.planes[2].displacement_mm, sagittal.displacement_mm)


def test_a_system_without_a_deformation_has_no_grid(tmp_path):
    image, labels = images()
    results = add(tmp_path, RUN, rows(RUN.name), [], Example.cut("one", image, labels, labels))
    assert results.example(RUN.name).planes[0].displacement_mm is None
    assert results.example("another") is None


def test_an_example_needs_labels_and_its_own_format(tmp_path):
    image, labels = images()
    with pytest.raises(InputError, match="empty"):
        Example.cut("one", image, labels * 0, labels)
    (tmp_path / "wrong.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="example of a run"):
        Example.load(tmp_path / "wrong.npz")
