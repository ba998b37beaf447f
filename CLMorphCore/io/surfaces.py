"""Surfaces in files, by the library VTK: .vtk, .vtp, .stl, .ply; and .obj, a text whose other lines stay as they are.

Slicer writes SPACE=LPS or SPACE=RAS into their headers and comments; without a word they are LPS, as in Slicer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, InputError, OutputError
from . import itk
from .files import cannot_read, check_file, read_text, short
from .points import SIGNS, Space, space_of

ENDINGS = (".vtk", ".vtp", ".stl", ".ply", ".obj")
EXPECTED = "a surface of points and polygons as .vtk, .vtp, .stl, .ply or .obj"
SPACE = re.compile(r"\bSPACE=(LPS|RAS)\b")
Write = Callable[[Path, np.ndarray, bool], None]


@dataclass(frozen=True)
class Surface:
    """Vertices (N, 3), LPS, mm, and ``write(path, others, mirrored)``: the same file with others in their place.

    ``mirrored`` polygons are turned round, so that their outside stays outside. Normals are made anew.
    """

    lps_mm: np.ndarray
    write: Write


def is_surface(path: Path) -> bool:
    """Whether a file is taken as a surface by its ending; an image has the ending .vtk, too."""
    name = path.name.lower()
    if not name.endswith(".vtk"):
        return name.endswith(ENDINGS)
    try:
        with path.open("rb") as file:
            return b"STRUCTURED_POINTS" not in file.read(4096)
    except OSError:
        return True  # and is refused as one when it is read


def read_surface(path: Path, space: Space | None = None) -> Surface:
    """The surface of a file; ``space`` is that of coordinates where the file does not say (LPS otherwise).

    FileError where it holds none; InputError where VTK is missing, or the file says another space than ``space``.
    """
    check_file(path, EXPECTED)
    if path.name.lower().endswith(".obj"):
        return _obj(path, space)
    data, words, write = _read(path)
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    signs = SIGNS[space_of(path, _said(words), space)]
    vertices = vtk_to_numpy(data.GetPoints().GetData())
    if not np.isfinite(vertices).all():
        raise FileError(f"{path} holds coordinates that are not finite; expected numbers in mm")

    def written(output: Path, points: np.ndarray, mirrored: bool) -> None:
        data.GetPoints().SetData(numpy_to_vtk((points * signs).astype(vertices.dtype), deep=True))
        write(output, _finished(data, mirrored))

    return Surface(vertices.astype(np.float64) * signs, written)


def _said(words: str) -> Space | None:
    found = SPACE.search(words)
    return None if found is None else ("RAS" if found[1] == "RAS" else "LPS")


def _finished(data: Any, mirrored: bool) -> Any:
    """The mesh with polygons turned round where they were mirrored, and normals of its new shape where it had some."""
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals, vtkReverseSense

    had = [attributes.GetNormals() is not None for attributes in (data.GetPointData(), data.GetCellData())]
    for attributes, is_there in zip((data.GetPointData(), data.GetCellData()), had, strict=True):
        if is_there:  # VTK makes none where there are some
            attributes.RemoveArray(attributes.GetNormals().GetName())
    if mirrored:
        turned = vtkReverseSense()
        turned.SetInputData(data)
        turned.ReverseCellsOn()
        turned.ReverseNormalsOff()
        turned.Update()
        data = turned.GetOutput()
    if any(had):
        made = vtkPolyDataNormals()
        made.SetInputData(data)
        made.SplittingOff()
        made.ConsistencyOff()
        made.SetComputePointNormals(had[0])
        made.SetComputeCellNormals(had[1])
        made.Update()
        data = made.GetOutput()
    return data


def _read(path: Path) -> tuple[Any, str, Callable[[Path, Any], None]]:
    """The mesh of a file, the words in which it says its space, and how a mesh is written as the file is."""
    try:
        from vtkmodules.vtkIOGeometry import vtkSTLReader, vtkSTLWriter
        from vtkmodules.vtkIOLegacy import vtkPolyDataReader, vtkPolyDataWriter
        from vtkmodules.vtkIOPLY import vtkPLYReader, vtkPLYWriter
        from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLPolyDataWriter
    except ImportError:
        raise InputError(
            f"{path} is a surface, and the library VTK, which reads it, is not installed", "pip install vtk"
        ) from None
    ending = path.suffix.lower()
    reader, writer = {
        ".vtk": (vtkPolyDataReader, vtkPolyDataWriter),
        ".vtp": (vtkXMLPolyDataReader, vtkXMLPolyDataWriter),
        ".stl": (vtkSTLReader, vtkSTLWriter),
        ".ply": (vtkPLYReader, vtkPLYWriter),
    }[ending]
    reader, writer = reader(), writer()
    _check_readable(path)
    reader.SetFileName(str(path))
    reader.Update()
    data = reader.GetOutput()
    words = ""
    if ending == ".vtp":
        said = data.GetFieldData().GetAbstractArray("SPACE")
        words = f"SPACE={said.GetValue(0)}" if said is not None and said.GetNumberOfValues() else ""
    elif ending == ".ply":
        comments = [reader.GetComments().GetValue(n) for n in range(reader.GetComments().GetNumberOfValues())]
        words = "\n".join(comments)
        for comment in comments:
            if comment != "VTK generated PLY File":  # which is written anyway
                writer.AddComment(comment)
        for name in ("RGBA", "RGB"):
            if data.GetPointData().GetArray(name) is not None:
                writer.SetArrayName(name)
                writer.SetEnableAlpha(name == "RGBA")
                break
    else:
        words = reader.GetHeader() or ""
        writer.SetHeader(words)
    if ending in (".vtk", ".stl", ".ply"):
        writer.SetFileTypeToBinary()
    return data, words, lambda output, mesh: _save(writer, output, mesh)


def _check_readable(path: Path) -> None:
    """FileError unless VTK reads a file, which it is tried on in a process of its own: damaged ones end it."""
    try:
        itk.read("surface", path)
    except itk.CannotRead as error:
        reason = str(error).replace("ITK", "VTK")
        raise FileError(f"{path} cannot be read as a surface ({reason}); expected {EXPECTED}; check the file") from None
    except OSError as error:
        raise cannot_read(path, error, EXPECTED) from None


def _save(writer: Any, output: Path, mesh: Any) -> None:
    writer.SetFileName(str(output))
    writer.SetInputData(mesh)
    if not writer.Write() or writer.GetErrorCode():
        raise OutputError(f"cannot write {output}: VTK's error {writer.GetErrorCode()}; check the place and its space")


def _obj(path: Path, space: Space | None) -> Surface:
    lines = read_text(path, EXPECTED, kind="a surface").splitlines()
    comments = "\n".join(line for line in lines if line.startswith("#"))
    signs = SIGNS[space_of(path, _said(comments), space)]
    places = [n for n, line in enumerate(lines) if line.split()[:1] == ["v"]]
    try:
        found = np.array([[float(word) for word in lines[n].split()[1:4]] for n in places], np.float64)
        if found.ndim != 2 or found.shape[1] != 3 or not np.isfinite(found).all():
            raise ValueError("it has no vertices of three finite numbers")
    except ValueError as error:
        raise FileError(f"{path} cannot be read as a surface: {short(error)}; expected {EXPECTED}") from None

    def written(output: Path, points: np.ndarray, mirrored: bool) -> None:
        moved = dict(zip(places, (points * signs).tolist(), strict=True))
        text = [_obj_line(line, moved.get(n), mirrored) for n, line in enumerate(lines)]
        output.write_text("".join(f"{line}\n" for line in text if line is not None), encoding="utf-8", newline="")

    return Surface(found * signs, written)


def _obj_line(line: str, vertex: list[float] | None, mirrored: bool) -> str | None:
    """A line with its vertex in another place, or without the normals of the old shape (None: nothing is left)."""
    words = line.split()
    if vertex is not None:
        return " ".join(["v", *(f"{x + 0.0:.9g}" for x in vertex), *words[4:]])
    if words[:1] == ["vn"]:
        return None
    if words[:1] == ["f"]:
        corners = ["/".join(corner.split("/")[:2]).rstrip("/") for corner in words[1:]]
        return " ".join(["f", *(reversed(corners) if mirrored else corners)])
    return line
