"""Landmarks against analytic answers: the maps that they say, what they pull, and the errors that are reported."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.commands.register import landmark_lines
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, linear_parts
from CLMorphCore.guidance.landmarks import Landmarks, Pull, fitted, kind_of, paired
from CLMorphCore.instance_optimization import InstanceOptimization, optimize
from CLMorphCore.io.points import read_landmarks, read_points
from CLMorphCore.reports.report import LandmarksEntry, Report


def landmarks(fixed, moving):
    return Landmarks(tuple(map(str, range(len(fixed)))), np.asarray(fixed, float), np.asarray(moving, float))


def turn(seed):
    motion = sitk.Euler3DTransform()
    random = np.random.default_rng(seed)
    motion.SetRotation(*random.uniform(-0.6, 0.6, 3).tolist())
    motion.SetTranslation(random.uniform(-30, 30, 3).tolist())
    return motion


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(-40, 40, (count, 3)) + np.array([10, -60, 25])


def carried(transform, where):
    return np.array([transform.TransformPoint(p) for p in where.tolist()])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_the_map_is_exact_where_the_landmarks_are(seed, count):
    where = points(count, seed)
    motion = turn(seed) if count >= 3 else sitk.TranslationTransform(3, (4.0, -5.0, 6.0))
    found, weights = fitted(landmarks(where, carried(motion, where)))
    assert np.abs(linear_parts(found)[0] - linear_parts(motion)[0]).max() < 1e-6
    assert np.abs(carried(found, points(5, 1)) - carried(motion, points(5, 1))).max() < 1e-6
    assert weights == pytest.approx(np.ones(count))


def test_an_affine_map_is_found_from_eight_on_and_not_from_a_plane():
    matrix = np.array([[1.1, 0.1, 0], [-0.05, 0.9, 0.2], [0.1, 0, 1.3]])
    where = points(9)
    found, _ = fitted(landmarks(where, where @ matrix.T + [1, 2, 3]))
    assert kind_of(landmarks(where, where)) == "affine"
    assert np.abs(linear_parts(found)[0] - matrix).max() < 1e-9
    flat = where * [1, 1, 0]
    assert kind_of(landmarks(flat, flat)) == "rigid"
    assert kind_of(landmarks(flat * [1, 0, 0], flat)) == "shift"


@pytest.mark.parametrize("scale", [1.0, 0.02], ids=["person", "embryo"])
@pytest.mark.parametrize("count", [6, 10])
def test_a_landmark_that_is_set_wrong_does_not_bend_the_map(count, scale):
    where, motion = scale * points(count), turn(3)
    moving = carried(motion, where)
    moving[2] += scale * np.array([35, -20, 10])
    found, weights = fitted(landmarks(where, moving))
    others = np.arange(count) != 2
    assert np.abs(carried(found, where)[others] - moving[others]).max() < 1e-3
    assert weights[2] == 0 and weights[others].min() > 0.9


def test_the_landmarks_that_are_farthest_apart_are_printed():
    mm = tuple(float(n) for n in range(30))
    figures = {"before": 1.0, "affine": 2.0, "warped": 3.0}
    lines = landmark_lines(LandmarksEntry(tuple(f"p{n}" for n in range(30)), mm, mm, mm, figures, figures))
    assert len(lines) == 1 + 20 + 1 + 2 and lines[1].split() == ["p29", "29.00", "29.00", "29.00"]
    assert lines[21] == "… and 10 more in report.json" and lines[22].split() == ["mean", "1.00", "2.00", "3.00"]


BOX = Grid((100, 100, 100), (1.0, 1.0, 1.0), (-40.0, -110.0, -25.0))


def test_landmarks_are_doubted_outside_of_their_images_and_where_they_end_farther_apart():
    where = points(6)
    shift = sitk.TranslationTransform(3, (4.0, 0.0, 0.0))
    right = landmarks(where, carried(shift, where))
    assert right.doubts(BOX, BOX, shift.TransformPoint) == []
    exchanged = landmarks(right.moving_mm, right.fixed_mm)
    (said,) = exchanged.doubts(BOX, BOX, shift.TransformPoint)
    assert "8.00 mm apart after the registration, 4.00 mm before" in said
    other_space = landmarks(where * [-1, -1, 1], where)
    said = other_space.doubts(BOX, BOX, lambda point: (-point[0], -point[1], point[2]))
    assert said[0].startswith("6 of 6 landmarks lie outside of the fixed image") and "RAS" in said[0]


def test_names_that_were_of_no_use_are_told():
    where = points(2)
    assert paired(where, where, "ab", "ba").notes() == []
    assert paired(where, where).notes() == [] and paired(where, where, ("", ""), "ab").notes() == []
    assert "matched by order" in paired(where, where, "ab", "xy").notes()[0]
    assert "matched by order" in paired(where, where, "aa", "aa").notes()[0]
    assert "without a partner do not count: b, c" in paired(where, where, "ab", "ac").notes()[0]


def test_the_pull_is_the_error_and_its_slope():
    shape, mm = (12, 14, 16), (2.0, 1.5, 1.0)
    where = np.array([[5.0, 6.0, 7.0], [4.0, 8.0, 9.0]])
    pull = Pull(where, where + np.array([[1, 0, 2], [0, -1, 1]]), np.ones(2), shape, mm)
    still = torch.zeros(1, 3, *shape, dtype=torch.float64)
    cost, force = pull(still)
    assert cost == pytest.approx(((2.0**2 + 2.0**2) + (1.5**2 + 1.0**2)) / 2 / (0.1 * 24) ** 2)
    assert pull(still + 1e-3 * force / force.abs().max())[0] < cost
    moved = still.clone()
    moved[0, :, 5, 6, 7], moved[0, :, 4, 8, 9] = torch.tensor([1.0, 0, 2]), torch.tensor([0, -1.0, 1])
    assert pull(moved)[0] == pytest.approx(0, abs=1e-12)


def test_the_pull_is_the_same_on_coarser_fields():
    where = np.array([[6.0, 6.0, 8.0]])
    pull = Pull(where, where + 2, np.ones(1), (13, 13, 17), (1.0, 1.0, 1.0))
    costs = [pull(torch.zeros(1, 3, *shape))[0] for shape in ((13, 13, 17), (7, 7, 9))]
    assert costs[0] == pytest.approx(costs[1])


def test_where_images_show_nothing_landmarks_lead():
    generator = torch.Generator().manual_seed(0)
    fixed = 1e-3 * torch.randn(1, 1, 33, 33, 33, generator=generator)
    where = np.array([[10.0, 12, 14], [20, 20, 20], [14, 22, 10]])
    aims = where + np.array([[2, -1, 1], [-1, 2, 0], [0, 1, -2]])
    pull = Pull(where, aims, np.ones(3), (33, 33, 33), (1.0, 1.0, 1.0))
    start = torch.zeros(1, 3, 17, 17, 17)
    before, _ = pull(start)
    found = optimize(fixed, fixed, start, InstanceOptimization(60), pull=pull)
    after, _ = pull(found.displacement)
    assert (after / before) ** 0.5 < 0.35  # of the distance


@pytest.mark.parametrize(
    ("fixed", "moving", "pairs", "alone"),
    [
        ("1-34", "123-", [(0, 0), (1, 2)], ("2", "4")),  # 1 and 3: what has no place keeps its number
        ("123-", "123", [(0, 0), (1, 1), (2, 2)], ()),  # the last one is about to be placed
        ("123-", "1234", [(0, 0), (1, 1), (2, 2)], ("4",)),
        ("1-3", "12", None, None),  # as many, and yet nobody knows which
        ("1-", "-2", None, None),
    ],
)
def test_a_point_without_a_place_keeps_its_number_in_the_order(fixed, moving, pairs, alone, tmp_path):
    """In every format that says so: as Slicer writes them, with labels that name the list, F-1 and M-1."""
    held = {"csv": (lambda n, set_: f"{n},{-n},0,{int(set_)}", "r,a,s,defined\n"),
            "fcsv": (lambda n, set_: f"x-{n},{n},{-n},0,,{2 if set_ else 3},0", "# columns = id,x,y,z,label\n"),
            "mrk.json": (lambda n, set_: json.dumps(
                {"label": f"x-{n}", "position": [-n, n, 0], "positionStatus": "defined" if set_ else "missing"}), "")
            }  # fmt: skip
    for ending, (line, head) in held.items():
        files = [tmp_path / f"{name}.{ending}" for name in "fm"]
        for name, path, points_ in zip("FM", files, (fixed, moving), strict=True):
            lines = [line(n, each != "-").replace("x", name) for n, each in enumerate(points_, start=1)]
            markup = f'{{"markups": [{{"controlPoints": [{",".join(lines)}]}}]}}'
            path.write_text(markup if ending == "mrk.json" else head + "\n".join(lines) + "\n", encoding="utf-8")
        if pairs is None:
            with pytest.raises(InputError, match="with those that have no place"):
                read_landmarks(*files)
            continue
        found, places = read_landmarks(*files), [[n for n in each if n != "-"] for each in (fixed, moving)]
        for number, mm in enumerate((found.fixed_mm, found.moving_mm)):
            assert mm[:, 0].tolist() == [-float(places[number][pair[number]]) for pair in pairs], ending
        assert found.matched_by == "order" and [name[-1] for name in found.alone] == list(alone), ending


def test_pairs_by_name_or_by_order():
    first, second = points(3), points(3, 1)
    by_name = paired(first, second, ("a", "b", "c"), ("c", "a", "x"))
    assert by_name.matched_by == "name" and by_name.names == ("a", "c") and by_name.alone == ("b", "x")
    assert np.array_equal(by_name.moving_mm, second[[1, 0]])
    assert paired(first, second, ("a", "b", "c")).matched_by == "order"
    assert paired(first, second, ("a", "a", "c"), ("c", "a", "x")).matched_by == "order"
    with pytest.raises(InputError, match="3 in the fixed image and 2 in the moving"):
        paired(first, second[:2])


def test_names_of_points_in_every_kind_of_file(tmp_path):
    csv, fcsv, markups = (tmp_path / name for name in ("p.csv", "p.fcsv", "p.mrk.json"))
    csv.write_text("label,x,y,z\nac,1,2,3\npc,4,5,6\n")
    fcsv.write_text(
        "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc\n"
        "1,1,2,3,0,0,0,1,1,1,0,ac,\n2,4,5,6,0,0,0,1,1,1,0,pc,\n"
    )
    controls = [{"label": name, "position": place} for name, place in (("ac", [1, 2, 3]), ("pc", [4, 5, 6]))]
    markups.write_text(
        json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": controls}]})
    )
    for path in (csv, fcsv, markups):
        found = read_points(path)
        assert found.names == ("ac", "pc") and np.array_equal(found.lps_mm, [[1, 2, 3], [4, 5, 6]])
    csv.write_text("1,2,3\n")
    assert read_points(csv).names == ()


def test_the_commands_take_landmarks_and_report_their_errors(clmorph, scan, tiny_model, atlas, tmp_path):
    """The atlas turned by so much that no alignment begins near enough is found by four landmarks."""
    motion = sitk.Euler3DTransform(Grid.of(atlas.image).corners_mm().mean(axis=0).tolist(), 0.0, 0.0, 1.9)
    fixed = sitk.Resample(atlas.image, atlas.image, motion)
    sitk.WriteImage(fixed, tmp_path / "fixed.nii.gz")
    middle = Grid.of(atlas.image).corners_mm().mean(axis=0)
    where = middle + np.array([[8, 0, 0], [0, 9, 0], [0, 0, 7], [5, 5, -5]])
    for name, places in (("fixed", where), ("moving", carried(motion, where))):
        rows = [f"{n},{x},{y},{z}" for n, (x, y, z) in enumerate(places)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["label,x,y,z", *rows]))
    options = "--landmarks", tmp_path / "fixed.csv", tmp_path / "moving.csv", "--model", tiny_model, "-o"
    ran = clmorph("segment", tmp_path / "fixed.nii.gz", *options, tmp_path / "out")
    assert ran.code == 0, ran.err
    entry = Report.read(tmp_path / "out" / "report.json").landmarks
    before = np.linalg.norm(carried(motion, where) - where, axis=1)
    assert entry.before_mm == pytest.approx(before, abs=1e-3) and entry.matched_by == "name"
    assert entry.mean_mm["affine"] < 0.5 and entry.mean_mm["warped"] < 1.0
    assert "<h2>Landmarks</h2>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    image = tiny_model / "atlases" / "ellipsoids" / "image.nii.gz"
    ran = clmorph("register", tmp_path / "fixed.nii.gz", image, *options, tmp_path / "pair")
    tree = json.loads((tmp_path / "pair" / "report.json").read_text(encoding="utf-8"))
    assert ran.code == 0 and tree["landmarks"]["max_mm"]["before"] == pytest.approx(before.max(), abs=1e-3)
    largest = next(line.split() for line in ran.out.splitlines() if line.startswith("largest"))
    assert [float(cell) for cell in largest[1:]] == pytest.approx(list(tree["landmarks"]["max_mm"].values()), abs=0.006)
    (tmp_path / "moving.csv").write_text("x,y,z\n1,2,3\n")
    ran = clmorph("register", tmp_path / "fixed.nii.gz", image, *options, tmp_path / "bad")
    assert ran.code == 2 and "--landmarks" in ran.err and ran.err.count("\n") == 1
