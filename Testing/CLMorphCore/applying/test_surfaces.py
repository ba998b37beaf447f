"""Surfaces of every format along transforms, against ITK and Slicer's hardening; LPS and RAS by their headers."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_transforms import GRIDS, in_slicer, smooth_field

from CLMorphCore.errors import InputError
from CLMorphCore.io.surfaces import read_surface

vtk = pytest.importorskip("vtk")
numpy_support = pytest.importorskip("vtkmodules.util.numpy_support")
FINE = smooth_field(GRIDS["oblique"].with_shape([4 * n for n in GRIDS["oblique"].shape]))
CENTRE = GRIDS["oblique"].points_mm((np.array([GRIDS["oblique"].shape]) - 1) / 2)[0]
ENDINGS = ("vtk", "vtp", "stl", "ply", "obj")
endings = pytest.mark.parametrize("ending", ENDINGS)


def sphere():
    """A ball with normals about the grid's centre."""
    source = vtk.vtkSphereSource()
    source.SetCenter(CENTRE)
    source.SetRadius(6)
    source.SetThetaResolution(12)
    source.SetPhiResolution(9)
    source.Update()
    return source.GetOutput()


def by_slicer(folder, ending, space):
    """A model of RAS coordinates in a scene, as Slicer writes it; (path, vertices LPS)."""
    slicer = pytest.importorskip("slicer")
    scene, mesh, node, storage = (
        slicer.vtkMRMLScene(),
        sphere(),
        slicer.vtkMRMLModelNode(),
        slicer.vtkMRMLModelStorageNode(),
    )
    points = numpy_support.vtk_to_numpy(mesh.GetPoints().GetData()) * np.array([-1, -1, 1], np.float32)
    mesh.GetPoints().SetData(numpy_support.numpy_to_vtk(points, deep=True))
    scene.AddNode(node)
    scene.AddNode(storage)
    node.SetAndObservePolyData(mesh)
    path = folder / f"ball.{ending}"
    storage.SetFileName(str(path))
    storage.SetCoordinateSystem(storage.GetCoordinateSystemFromString(space))
    assert storage.WriteData(node)
    return path, points * [-1, -1, 1]


def sorted_points(points):
    return np.array(sorted(np.round(points, 4).tolist()))


@endings
@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_vertices_go_where_itk_takes_them_and_where_slicer_does(ending, space, tmp_path, clmorph):
    path, points = by_slicer(tmp_path, ending, space)
    assert np.abs(sorted_points(read_surface(path).lps_mm) - sorted_points(points)).max() < 1e-3
    sitk.WriteTransform(FINE, str(tmp_path / "t.h5"))
    out, back = tmp_path / f"out.{ending}", tmp_path / f"back.{ending}"
    ran = clmorph("apply", path, "-t", tmp_path / "t.h5", "-o", out)
    assert ran.code == 0 and not ran.err, ran.err
    there = np.array([FINE.TransformPoint(p) for p in read_surface(path).lps_mm.tolist()])
    assert np.abs(read_surface(out).lps_mm - there).max() < 1e-3 and np.abs(there - CENTRE).max() > 5
    ran = clmorph("apply", path, "--inverse-of", tmp_path / "t.h5", "-o", back)
    assert ran.code == 0 and not ran.err, ran.err
    slicer = sys.modules["slicer"]
    scene = slicer.vtkMRMLScene()
    before, ours = (in_slicer(scene, each, "Model", "Model") for each in (path, back))
    transform = in_slicer(scene, tmp_path / "t.h5", "Transform", "Transform")
    before.SetAndObserveTransformNodeID(transform.GetID())
    before.HardenTransform()
    theirs, found = (
        numpy_support.vtk_to_numpy(each.GetPolyData().GetPoints().GetData()).astype(float) for each in (before, ours)
    )
    assert len(theirs) == len(found) and np.abs(theirs - found).max() < 0.01


@endings
def test_a_mirrored_surface_keeps_its_outside(ending, tmp_path, clmorph):
    path, _ = by_slicer(tmp_path, ending, "LPS")
    sitk.WriteTransform(sitk.AffineTransform([-1, 0, 0, 0, 1, 0, 0, 0, 1], [3, 0, 0]), str(tmp_path / "mirror.tfm"))
    out = tmp_path / f"out.{ending}"
    assert clmorph("apply", path, "-t", tmp_path / "mirror.tfm", "-o", out).code == 0
    volumes = []
    for file in (path, out):
        reader = {
            "vtk": vtk.vtkPolyDataReader,
            "vtp": vtk.vtkXMLPolyDataReader,
            "stl": vtk.vtkSTLReader,
            "ply": vtk.vtkPLYReader,
            "obj": vtk.vtkOBJReader,
        }[ending]()
        reader.SetFileName(str(file))
        reader.Update()
        mesh = reader.GetOutput()
        points = numpy_support.vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)
        faces = numpy_support.vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
        a, b, c = (points[faces[:, n]] - points.mean(axis=0) for n in range(3))
        volumes.append(float((a * np.cross(b, c)).sum() / 6))
    assert volumes[0] == pytest.approx(volumes[1], rel=1e-4) and volumes[0] > 100


def test_normals_are_those_of_the_new_shape(tmp_path, clmorph):
    path, _ = by_slicer(tmp_path, "vtp", "LPS")
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, np.pi / 2)
    sitk.WriteTransform(turn, str(tmp_path / "turn.tfm"))
    assert clmorph("apply", path, "-t", tmp_path / "turn.tfm", "-o", tmp_path / "out.vtp").code == 0
    reader = vtk.vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "out.vtp"))
    reader.Update()
    mesh = reader.GetOutput()
    points, normals = (
        numpy_support.vtk_to_numpy(array).astype(float)
        for array in (mesh.GetPoints().GetData(), mesh.GetPointData().GetNormals())
    )
    out = points - points.mean(axis=0)
    assert ((out / np.linalg.norm(out, axis=1)[:, None]) * normals).sum(axis=1).min() > 0.9


def test_all_else_of_an_obj_file_stays(tmp_path):
    text = "# SPACE=RAS\nmtllib a.mtl\nv 0 0 0 1\nv 1 0 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\ng part\nf 1/1/1 2/1/1 3//1\n"
    (tmp_path / "a.obj").write_text(text)
    found = read_surface(tmp_path / "a.obj")
    assert found.lps_mm.tolist() == [[0, 0, 0], [-1, 0, 0], [0, -1, 0]]
    found.write(tmp_path / "b.obj", found.lps_mm + 1.0, False)
    expected = "# SPACE=RAS\nmtllib a.mtl\nv -1 -1 1 1\nv 0 -1 1\nv -1 0 1\nvt 0 0\ng part\nf 1/1 2/1 3\n"
    assert (tmp_path / "b.obj").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("ending", ["vtk", "vtp", "stl", "ply"])
def test_a_damaged_surface_is_one_line(ending, tmp_path):
    path, _ = by_slicer(tmp_path, ending, "LPS")
    for content in (b"", b"nonsense\n" * 40, path.read_bytes()[: path.stat().st_size // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_surface(path)
        assert "\n" not in str(caught.value)


def as_text_or_binary(folder, ending, binary):
    """A ball that VTK writes with numbers at its points, as text or packed."""
    mesh, numbers = sphere(), vtk.vtkFloatArray()
    numbers.SetName("thickness")
    for n in range(mesh.GetNumberOfPoints()):
        numbers.InsertNextValue(n)
    mesh.GetPointData().AddArray(numbers)
    writer = {"vtk": vtk.vtkPolyDataWriter, "ply": vtk.vtkPLYWriter}[ending]()
    path = folder / f"ball.{ending}"
    writer.SetFileName(str(path))
    writer.SetInputData(mesh)
    (writer.SetFileTypeToBinary if binary else writer.SetFileTypeToASCII)()
    writer.Write()
    return path


@pytest.mark.parametrize(("ending", "binary"), [("vtk", False), ("vtk", True), ("ply", False)])
def test_a_surface_that_is_cut_off_is_refused_and_not_filled_with_what_was_in_memory(ending, binary, tmp_path):
    path = as_text_or_binary(tmp_path, ending, binary)
    whole = path.read_bytes()
    head = whole.index(b"POINTS" if ending == "vtk" else b"end_header") + 24
    before = read_surface(path).lps_mm
    for share in (0.1, 0.5, 0.9) if ending == "ply" else (0.1, 0.25):
        path.write_bytes(whole[: head + int(share * (len(whole) - head))])
        with pytest.raises(InputError, match="cannot be read as a surface"):
            read_surface(path)
    path.write_bytes(whole.rstrip() if not binary else whole)
    assert np.array_equal(read_surface(path).lps_mm, before)


def test_without_vtk_it_is_one_line(tmp_path, monkeypatch):
    path, _ = by_slicer(tmp_path, "ply", "LPS")
    monkeypatch.setitem(sys.modules, "vtkmodules.vtkIOPLY", None)
    with pytest.raises(InputError, match="VTK, which reads it, is not installed; pip install vtk"):
        read_surface(path)


def test_the_space_that_the_file_says_counts(tmp_path):
    path, points = by_slicer(tmp_path, "ply", "RAS")
    with pytest.raises(InputError, match="says that its coordinates are RAS, LPS is given"):
        read_surface(path, "LPS")
    path.write_bytes(path.read_bytes().replace(b"comment SPACE=RAS\n", b""))
    assert np.abs(read_surface(path, "RAS").lps_mm - points).max() < 1e-3
    assert np.abs(read_surface(path).lps_mm - points * [-1, -1, 1]).max() < 1e-3
