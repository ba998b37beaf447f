"""Registrations that are known exactly are measured as what they are: by points, labels, Jacobians and inverses."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_transforms import GRIDS, smooth_field

from CLMorphCore.errors import FileError
from CLMorphCore.evaluating.pairs import evaluate_pairs
from CLMorphCore.geometry import Grid, placed
from CLMorphCore.io.pairs import read_pairs

SCALE = sitk.AffineTransform([1.1, 0, 0, 0, 0.9, 0, 0, 0, 1.2], [3.0, -2.0, 1.0])


def write_points(path, names, points):
    rows = (f"{n},{x},{y},{z}" for n, (x, y, z) in zip(names, points, strict=True))
    path.write_text("\n".join(["label,x,y,z", *rows]))


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(params=GRIDS)
def folder(request, tmp_path):
    """A pair whose transform is exact, with labels, landmarks that are 2 mm off, an inverse and a mask."""
    grid = GRIDS[request.param]
    points = grid.points_mm(np.indices(grid.shape).reshape(3, -1).T)
    centre = points.mean(axis=0)
    corner = tuple((np.array(SCALE.TransformPoint(centre.tolist())) - 27).tolist())
    moving_grid = Grid((40, 40, 40), (1.4, 1.4, 1.4), corner)
    there = moving_grid.points_mm(np.indices(moving_grid.shape).reshape(3, -1).T)
    back = (there - np.array(SCALE.GetTranslation())) / np.array([1.1, 0.9, 1.2])

    def labelled(where, shape):
        inside = np.linalg.norm(where - centre, axis=1) < 9
        return (inside * (1 + (where[:, 0] > centre[0]))).astype(np.uint8).reshape(shape)

    for name, where, own in (("fixed", points, grid), ("moving", back, moving_grid)):
        labels = labelled(where, own.shape)
        waves = 100 * (labels > 0) + 10 * np.sin(where[:, 0] / 3).reshape(own.shape)
        sitk.WriteImage(placed(waves.astype(np.float32), own), tmp_path / f"{name}.nii.gz")
        sitk.WriteImage(placed(labels, own), tmp_path / f"{name}_labels.nii.gz")
    mask = np.zeros(grid.shape, np.uint8)
    mask[3:-3, 3:-3, 3:-3] = 1
    sitk.WriteImage(placed(mask, grid), tmp_path / "mask.nii.gz")
    where = grid.points_mm(np.random.default_rng(0).uniform(3, np.array(grid.shape) - 4.0, (5, 3)))
    aims = np.array([SCALE.TransformPoint(p) for p in where.tolist()]) + np.array([0, 2, 0])
    write_points(tmp_path / "fixed.csv", "abcde", where)
    write_points(tmp_path / "moving.csv", "edcba", aims[::-1])
    sitk.WriteTransform(SCALE, str(tmp_path / "scale.tfm"))
    off = sitk.AffineTransform(SCALE.GetInverse())
    off.SetTranslation((np.array(off.GetTranslation()) + np.array([0, 0, 0.5])).tolist())
    sitk.WriteTransform(off, str(tmp_path / "inverse.tfm"))
    field = smooth_field(grid, 1, 1.5)
    sitk.WriteImage(field.GetDisplacementField(), tmp_path / "field.nii.gz")
    return tmp_path


BARE = {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz", "transform": "scale.tfm"}
WHOLE = BARE | {
    "pair": "known",
    "fixed_labels": "fixed_labels.nii.gz",
    "moving_labels": "moving_labels.nii.gz",
    "fixed_landmarks": "fixed.csv",
    "moving_landmarks": "moving.csv",
    "inverse": "inverse.tfm",
    "mask": "mask.nii.gz",
}


def test_a_known_transform_is_measured_as_what_it_is(folder):
    found = evaluate_pairs(read_pairs(write_rows(folder / "pairs.csv", [WHOLE, BARE])))
    known, bare = found.pairs
    for figure in (known.tre_mean_mm, known.tre_median_mm, known.tre_max_mm):
        assert figure == pytest.approx(2.0, abs=1e-5)
    assert known.tre_before_mean_mm > 2.5 and known.landmarks == 5
    assert known.jacobian_mean == pytest.approx(1.1 * 0.9 * 1.2, abs=1e-5)
    assert known.log_jacobian_sd == pytest.approx(0, abs=1e-5) and known.folding_fraction == 0
    assert known.inverse_mean_mm == pytest.approx(0.5, abs=1e-5) == pytest.approx(known.inverse_max_mm)
    assert known.dice > 0.9 > known.dice_before and known.structures == 2
    assert {(r.value, r.status) for r in found.structures} == {(1, "ok"), (2, "ok")}
    assert all(r.jacobian_mean == pytest.approx(1.188, abs=1e-4) for r in found.structures)
    assert (bare.pair, bare.tre_mean_mm, bare.dice, bare.inverse_mean_mm) == ("2", None, None, None)
    assert found.summary.mean["tre_mean_mm"] == pytest.approx(2.0, abs=1e-5)
    assert found.summary.worst["dice"] == "known"


def test_jacobians_are_those_of_the_points_that_itk_moves(folder):
    """By differences over a voxel on both sides; ITK's own filter does not know the directions of oblique grids."""
    row, whole = evaluate_pairs(
        read_pairs(
            write_rows(
                folder / "pairs.csv",
                [BARE | {"transform": "field.nii.gz", "mask": "mask.nii.gz"}, BARE | {"transform": "field.nii.gz"}],
            )
        )
    ).pairs
    image = sitk.ReadImage(str(folder / "fixed.nii.gz"))
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(folder / "field.nii.gz"), sitk.sitkVectorFloat64))
    to_mm = Grid.of(image).to_mm()
    where = np.argwhere(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask.nii.gz"))) > 0)
    found = []
    for point in Grid.of(image).points_mm(where):
        ends = [[field.TransformPoint((point + s * axis).tolist()) for s in (1, -1)] for axis in to_mm.T]
        found.append(np.linalg.det(np.array([np.subtract(*each) / 2 for each in ends]).T) / np.linalg.det(to_mm))
    expected = (min(found), np.mean(found), max(found), np.log(found).std())
    assert (row.jacobian_min, row.jacobian_mean, row.jacobian_max, row.log_jacobian_sd) == pytest.approx(
        expected, abs=1e-4
    )
    assert whole.log_jacobian_sd != row.log_jacobian_sd


def test_the_command_writes_tables_summary_and_page(clmorph, folder):
    pairs = write_rows(folder / "pairs.csv", [WHOLE, BARE])
    ran = clmorph("evaluate", "--pairs", pairs, "-o", folder / "out")
    assert ran.code == 0 and "TRE 2.00 mm" in ran.out, ran.err
    out = folder / "out"
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["pair"] for row in rows] == ["known", "2"] and rows[1]["dice"] == ""
    assert float(rows[0]["tre_max_mm"]) == pytest.approx(2.0, abs=1e-4)
    landmarks = list(csv.DictReader((out / "landmarks.csv").open()))
    assert [row["name"] for row in landmarks] == list("abcde")
    assert len(list(csv.DictReader((out / "structures.csv").open()))) == 2
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["pairs"] == 2 and summary["worst"]["tre_mean_mm"] == "known"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Target registration error" in page and "By structure" in page
    again = clmorph("evaluate", "--pairs", write_rows(pairs, [BARE]), "-o", out)
    assert again.code == 0 and not (out / "landmarks.csv").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"fixed": "fixed.nii.gz", "moving": "moving.nii.gz"}, "no column transform"),
        (BARE | {"transform": ""}, "row 1 has no transform"),
        (BARE | {"inverse": "none.h5"}, "inverse .none.h5. does not exist"),
        (BARE | {"fixed_labels": "fixed_labels.nii.gz"}, "expected fixed_labels and moving_labels"),
        (BARE | {"landmarks": "x"}, "unknown column .landmarks"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_in_one_line(folder, row, words):
    with pytest.raises(FileError, match=words):
        read_pairs(write_rows(folder / "pairs.csv", [row]))


def test_bad_input_of_the_command(clmorph, folder):
    pairs = write_rows(folder / "pairs.csv", [WHOLE | {"mask": "moving_labels.nii.gz"}])
    for arguments, words in (
        (("--pairs", pairs), "another grid"),
        (("--pairs", pairs, "--model", "brain"), "--model is given with --pairs"),
        (("--pairs", pairs, "--data", pairs), "not allowed with"),
        ((), "required"),
    ):
        ran = clmorph("evaluate", *arguments, "-o", folder / "out")
        assert ran.code == 2 and words in ran.err and ran.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_labels_of_a_part_of_the_grid_are_told(folder, clmorph):
    """Half of the planes, those with a structure: what lies on the others counts as background."""
    labels = sitk.ReadImage(str(folder / "moving_labels.nii.gz"))
    size = list(labels.GetSize())
    sitk.WriteImage(labels[:, :, size[2] // 4 : size[2] // 4 + size[2] // 2], str(folder / "moving_labels.nii.gz"))
    ran = clmorph("evaluate", "--pairs", write_rows(folder / "pairs.csv", [WHOLE]), "-o", folder / "out")
    assert ran.code == 0, ran.err
    told = "pair known: moving_labels.nii.gz: the labels' file covers 50% of the scan's grid; outside of it"
    assert told in ran.err and told in json.loads((folder / "out" / "summary.json").read_text())["warnings"][0]


def test_landmarks_that_do_not_count_or_are_exchanged_are_told_and_a_bad_row_is_named(folder, clmorph):
    write_points(folder / "other.csv", "abcdz", np.zeros((5, 3)) + 1000)
    marks = {"fixed_landmarks": "fixed.csv", "moving_landmarks": "other.csv"}
    table = write_rows(folder / "pairs.csv", [BARE | {"pair": "odd"} | marks])
    table.write_text(table.read_text().replace(",", ", "))  # as people type it
    ran = clmorph("evaluate", "--pairs", table, "-o", folder / "out")
    assert ran.code == 0 and "pair odd: landmarks without a partner do not count: e, z" in ran.err
    assert "4 of 4 landmarks lie outside of the moving image" in ran.err
    summary = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["landmarks"] == 4 and len(summary["warnings"]) == 2
    sitk.WriteTransform(sitk.Euler2DTransform(), str(folder / "flat.tfm"))
    table = write_rows(folder / "bad.csv", [BARE | {"pair": "good"}, BARE | {"pair": "bad", "transform": "flat.tfm"}])
    ran = clmorph("evaluate", "--pairs", table, "-o", folder / "none")
    assert ran.code == 2 and "pair bad: " in ran.err and "flat.tfm holds a 2D Euler2DTransform" in ran.err
