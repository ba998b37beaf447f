"""Points of files along transforms: CSV, .fcsv, .mrk.json, LPS and RAS, against ITK and Slicer's own reader."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_transforms import GRIDS, TURN, in_slicer, smooth_field

from CLMorphCore.errors import InputError
from CLMorphCore.io.points import read_points

FIELD = smooth_field(GRIDS["oblique"])
# Slicer draws cubic splines through a field, ITK lines: they agree where voxels are small.
FINE = smooth_field(GRIDS["oblique"].with_shape([3 * n for n in GRIDS["oblique"].shape]))
LPS = GRIDS["oblique"].points_mm(np.random.default_rng(0).uniform(2, 11, (5, 3)))
RAS = LPS * [-1, -1, 1]
NAMES = ["one", "two, with a comma", "drei ä", '"four"', "=5"]


def moved(transform=FIELD, points=LPS):
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


def as_csv(folder, points, header):
    path = folder / "points.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(header)
        named = dict(zip("xyzrasXYZlps", [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], strict=False))
        for point, name in zip(points, NAMES, strict=True):
            columns = header or ("x", "y", "z", "name")
            writer.writerow([point[named[c]] if c in named else name for c in columns])
    return path


def as_fcsv(folder, points, system):
    path = folder / "points.fcsv"
    head = "# Markups fiducial file version = 4.11\n"
    head += f"# CoordinateSystem = {system}\n" if system else ""
    head += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    rows = [f"{n},{p[0]},{p[1]},{p[2]},0,0,0,1,1,1,0,F-{n},about,vtkMRML{n}" for n, p in enumerate(points)]
    path.write_text(head + "\n".join(rows) + "\n")
    return path


def as_markups(folder, points, system, kind="Curve", **extra):
    path = folder / "points.mrk.json"
    controls = [
        {"id": str(n), "label": name, "position": p.tolist(), "positionStatus": "defined", "locked": n == 1}
        for n, (p, name) in enumerate(zip(points, NAMES, strict=True))
    ]
    controls.append({"id": "9", "position": None, "positionStatus": "undefined"})
    markup = {"type": kind, "coordinateSystem": system, "controlPoints": controls, "display": {"opacity": 1.0}} | extra
    path.write_text(json.dumps({"@schema": "https://x/markups-schema-v1.0.3.json#", "markups": [markup]}))
    return path


WRITERS = {
    "CSV without a header": (lambda folder: as_csv(folder, LPS, None), ()),
    "CSV of ANTs": (lambda folder: as_csv(folder, LPS, ("x", "y", "z", "label")), ()),
    "CSV, other order": (lambda folder: as_csv(folder, LPS, ("name", "Z", "x", "Y")), ()),
    "CSV in RAS": (lambda folder: as_csv(folder, RAS, ("x", "y", "z")), ("--points-space", "RAS")),
    "CSV of Slicer's table": (lambda folder: as_csv(folder, RAS, ("label", "r", "a", "s")), ()),
    "fcsv LPS": (lambda folder: as_fcsv(folder, LPS, "LPS"), ()),
    "fcsv 1": (lambda folder: as_fcsv(folder, LPS, "1"), ()),
    "fcsv RAS": (lambda folder: as_fcsv(folder, RAS, "RAS"), ()),
    "fcsv 0": (lambda folder: as_fcsv(folder, RAS, "0"), ("--points-space", "RAS")),
    "fcsv, old": (lambda folder: as_fcsv(folder, RAS, ""), ()),
    "json LPS": (lambda folder: as_markups(folder, LPS, "LPS"), ()),
    "json RAS": (lambda folder: as_markups(folder, RAS, "RAS", kind="Fiducial"), ()),
}
files = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@files
def test_points_go_where_itk_takes_them(write, tmp_path, clmorph):
    made, words = write[0](tmp_path), write[1]
    sitk.WriteTransform(FIELD, str(tmp_path / "t.h5"))
    ending = "".join(made.suffixes)
    out, back = tmp_path / f"out{ending}", tmp_path / f"back{ending}"
    ran = clmorph("apply", made, "-t", tmp_path / "t.h5", "-o", out, *words)
    assert ran.code == 0 and not ran.err, ran.err
    space = words[1] if words else None
    assert np.abs(read_points(out, space).lps_mm - moved()).max() < 1e-5
    ran = clmorph("apply", out, "--inverse-of", tmp_path / "t.h5", "-o", back, *words)
    assert np.abs(read_points(back, space).lps_mm - LPS).max() < 1e-3


@files
def test_all_else_of_the_file_stays(write, tmp_path):
    made = write[0](tmp_path)
    points = read_points(made)
    again = points.text(points.lps_mm)
    if made.suffix == ".json":
        ours, theirs = json.loads(again), json.loads(made.read_text(encoding="utf-8"))
        for content in (ours, theirs):
            for point in content["markups"][0]["controlPoints"][:5]:
                assert np.array(point.pop("position")).shape == (3,)
        assert ours == theirs
        return
    ours, theirs = (list(csv.reader(text.splitlines())) for text in (again, made.read_text(encoding="utf-8")))
    assert len(ours) == len(theirs)
    for row, other in zip(ours, theirs, strict=True):
        assert len(row) == len(other)
        assert all(a == b or float(a) == pytest.approx(float(b), abs=1e-7) for a, b in zip(row, other, strict=True))


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize("kind", ["fcsv", "mrk.json"])
def test_slicers_hardened_points_are_ours(kind, system, tmp_path, clmorph):
    slicer = pytest.importorskip("slicer")
    scene, points = slicer.vtkMRMLScene(), LPS if system == "LPS" else RAS
    made = (
        as_fcsv(tmp_path, points, system) if kind == "fcsv" else as_markups(tmp_path, points, system, kind="Fiducial")
    )
    sitk.WriteTransform(FINE, str(tmp_path / "t.h5"))
    ran = clmorph("apply", made, "--inverse-of", tmp_path / "t.h5", "-o", tmp_path / f"out.{kind}")
    assert ran.code == 0, ran.err
    reader = "MarkupsFiducial" if kind == "fcsv" else "MarkupsJson"
    node, ours = (in_slicer(scene, path, "MarkupsFiducial", reader) for path in (made, tmp_path / f"out.{kind}"))
    transform = in_slicer(scene, tmp_path / "t.h5", "Transform", "Transform")
    before = np.array([node.GetNthControlPointPosition(n) for n in range(5)])
    node.SetAndObserveTransformNodeID(transform.GetID())
    node.HardenTransform()  # Slicer takes a file of ITK's as the way back: images and points go together
    theirs, found = (np.array([each.GetNthControlPointPosition(n) for n in range(5)]) for each in (node, ours))
    assert np.abs(theirs - found).max() < 0.01 and np.abs(theirs - before).max() > 0.5
    assert [ours.GetNthControlPointLabel(n) for n in range(5)] == [node.GetNthControlPointLabel(n) for n in range(5)]


@pytest.mark.parametrize("kind", ["fcsv", "mrk.json"])
def test_points_that_have_no_place_in_slicer_do_not_count_and_stay_as_they_are(kind, tmp_path, clmorph):
    """Slicer writes coordinates into .fcsv and an empty position into .mrk.json for those."""
    slicer = pytest.importorskip("slicer")
    scene, node = slicer.vtkMRMLScene(), slicer.vtkMRMLMarkupsFiducialNode()
    scene.AddNode(node)
    for n, name in enumerate("abcd"):
        node.AddControlPoint([10.0 * n, 20.0 + n, 5.0], name)
    node.UnsetNthControlPointPosition(1)
    node.SetNthControlPointPositionMissing(2)
    reader = "Fiducial" if kind == "fcsv" else "Json"
    storage = getattr(slicer, f"vtkMRMLMarkups{reader}StorageNode")()
    scene.AddNode(storage)
    path = tmp_path / f"points.{kind}"
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    found = read_points(path)
    assert found.names == ("a", "d") and found.lps_mm.tolist() == [[0, -20, 5], [-30, -23, 5]]
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), str(tmp_path / "t.tfm"))
    out = tmp_path / f"out.{kind}"
    assert clmorph("apply", path, "-t", tmp_path / "t.tfm", "-o", out).code == 0
    again = in_slicer(scene, out, "MarkupsFiducial", f"Markups{reader}")
    placed = [again.GetNthControlPointPositionStatus(n) == again.PositionDefined for n in range(4)]
    assert placed == [True, False, False, True]
    assert again.GetNthControlPointPosition(3) == pytest.approx([29, 21, 8])


def test_points_of_a_table_of_slicer_without_a_place_do_not_count(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("label,r,a,s,defined\na,1,2,3,1\nb,,,,0\nc,4,5,6,1\n")
    found = read_points(path)
    assert found.names == ("a", "c") and found.lps_mm.tolist() == [[-1, -2, 3], [-4, -5, 6]]
    assert found.text(found.lps_mm) == path.read_text()


def test_measurements_of_the_old_places_go(tmp_path):
    made = as_markups(tmp_path, LPS, "LPS", measurements=[{"name": "length", "value": 3.0}])
    assert "measurements" not in read_points(made).text(moved())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.lists(st.tuples(*[st.floats(-500, 500)] * 3), min_size=1, max_size=8))
def test_numbers_are_written_to_a_millionth_of_a_millimetre(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("p") / "p.csv"
    path.write_text("".join(f"{x!r},{y!r},{z!r}\n" for x, y, z in numbers))
    found = read_points(path)
    path.write_text(found.text(found.lps_mm))
    assert np.abs(read_points(path).lps_mm - np.array(numbers)).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no columns x, y, z"),
        ("a.csv", "x,y,z\n", "holds no points"),
        ("a.csv", "x;y;z\n1;2;3\n", "semicolons"),
        ("a.csv", "x,y,z,x\n1,2,3,4\n", "two columns x"),
        ("a.csv", "x,y,z\n1,2\n", "row 2 is ''; expected a number"),
        ("a.csv", "x,y,z\n1,2,nan\n", "expected a number in mm"),
        ("a.csv", "1,2,3\n4,b,6\n", "'b'"),
        ("a.fcsv", "# CoordinateSystem = IJK\n1,2,3,4\n", "expected LPS"),
        ("a.fcsv", "# columns = id,label\n1,2\n", "expected x, y and z"),
        ("a.mrk.json", "{}", "expected Slicer's .mrk.json"),
        ("a.mrk.json", '{"markups": [{"type": "ROI", "controlPoints": []}]}', "more than points"),
        ("a.mrk.json", '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}', "expected three numbers"),
        ("a.mrk.json", '{"markups": [{"controlPoints": [3]}]}', "control point 1 is 3"),
        ("a.mrk.json", '{"markups": [{"controlPoints": null}]}', "expected Slicer's .mrk.json"),
        ("a.mrk.json", '{"markups": [{"coordinateUnits": "cm", "controlPoints": []}]}', "expected mm"),
        ("a.mrk.json", '{"markups": [{"coordinateSystem": "XYZ", "controlPoints": []}]}', "expected LPS or RAS"),
    ],
)
def test_what_holds_no_points_is_refused_in_one_line(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_points(tmp_path / name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("points.fcsv -t t.h5 -o o.fcsv --points-space RAS", "says that its coordinates are LPS, RAS is given"),
        ("points.fcsv -t t.h5 -o o.csv", "expected a file that ends in .fcsv"),
        ("points.fcsv -t t.h5 -o points.fcsv", "is there already"),
        ("points.fcsv -t t.h5 -o o.fcsv --reference points.fcsv", "--reference is given with points"),
        ("points.fcsv -t t.h5 -o o.fcsv --labels", "--labels is given with points"),
    ],
)
def test_wrong_use_of_the_command_is_one_line(words, message, tmp_path, clmorph, monkeypatch):
    monkeypatch.chdir(tmp_path)
    as_fcsv(tmp_path, LPS, "LPS")
    sitk.WriteTransform(TURN, "t.h5")
    before = sorted(tmp_path.iterdir())
    ran = clmorph("apply", *words.split())
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1, ran.err
    assert sorted(tmp_path.iterdir()) == before


def test_of_several_transforms_points_go_through_the_first_one_first_as_in_ants(tmp_path, clmorph):
    """ANTsPy 0.6.3 takes (1, 2, 3) along a shift by 10 and a doubling, in this order, to (22, 4, 6)."""
    shift, double = sitk.TranslationTransform(3, (10.0, 0.0, 0.0)), sitk.ScaleTransform(3, (2.0, 2.0, 2.0))
    for name, transform in (("shift", shift), ("double", double)):
        sitk.WriteTransform(transform, str(tmp_path / f"{name}.tfm"))
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    words = "-t", tmp_path / "shift.tfm", tmp_path / "double.tfm"
    for more, expected in (((), [22, 4, 6]), (("--inverse",), [-9.5, 1, 1.5])):
        assert clmorph("apply", tmp_path / "p.csv", *words, *more, "-o", tmp_path / f"o{len(more)}.csv").code == 0
        found = (tmp_path / f"o{len(more)}.csv").read_text(encoding="utf-8").splitlines()[1].split(",")
        assert [float(cell) for cell in found] == pytest.approx(expected)
    said = clmorph("transform", tmp_path / "shift.tfm", tmp_path / "double.tfm").out
    assert said.index("t 10") < said.index("volume × 8")
