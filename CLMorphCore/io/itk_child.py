"""Reads one file with ITK and hands on what is in it: a program of its own, since a damaged file can end or hang it.

`python itk_child.py image|field|surface|transform PATH [BYTES]` writes a line of JSON to stdout, and behind it an
image's voxels; VTK reads surfaces. It takes at most so many BYTES of memory, and no longer to compute than a file of
its size can need: a damaged one can keep ITK busy for ever. It imports nothing of the package, and starts in a fifth
of a second.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from typing import Any

import numpy as np
import SimpleITK as sitk

SURFACES = {
    ".vtk": ("vtkIOLegacy", "vtkPolyDataReader"),
    ".vtp": ("vtkIOXML", "vtkXMLPolyDataReader"),
    ".stl": ("vtkIOGeometry", "vtkSTLReader"),
    ".ply": ("vtkIOPLY", "vtkPLYReader"),
}
CPU_SECONDS, CPU_SECONDS_PER_MB = 10.0, 4.0


def read_image(path: str) -> tuple[dict[str, Any], bytes]:
    """{size, components, kind, spacing, origin, direction} of an image, and its voxels."""
    image = sitk.ReadImage(path)
    about = _about(image)
    plain = about["components"] == 1 and "complex" not in about["kind"]
    voxels = sitk.GetArrayViewFromImage(image) if plain else np.zeros(0, np.uint8)
    return about | {"type": voxels.dtype.str}, voxels.tobytes()


def _about(image: sitk.Image) -> dict[str, Any]:
    return {
        "size": image.GetSize(),
        "components": image.GetNumberOfComponentsPerPixel(),
        "kind": image.GetPixelIDTypeAsString(),
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }


def read_field(path: str) -> tuple[dict[str, Any], bytes]:
    """{size, components, kind, spacing, origin, direction} of an image of vectors, and its numbers in float64."""
    image = sitk.ReadImage(path)
    about = _about(image)
    if about["components"] == 1 or "complex" in about["kind"]:
        return about, b""
    return about, sitk.GetArrayViewFromImage(image).astype("f8").tobytes()


def read_transform(path: str) -> tuple[dict[str, Any], bytes]:
    """{name, dimension, linear}, and the matrix and offset of a linear one: p ↦ Mp + t."""
    try:
        transform = sitk.ReadTransform(path)
    except KeyError:  # of its table of kinds
        raise RuntimeError("it holds a kind of transform that SimpleITK does not know") from None
    dimension = transform.GetDimension()
    about = {"name": transform.GetName(), "dimension": dimension, "linear": transform.IsLinear()}
    if about["linear"]:
        offset = np.array(transform.TransformPoint([0.0] * dimension))
        columns = [transform.TransformPoint(axis) - offset for axis in np.eye(dimension).tolist()]
        about |= {"matrix": np.stack(columns, axis=1).tolist(), "offset": offset.tolist()}
    return about, b""


def read_surface(path: str) -> tuple[dict[str, Any], bytes]:
    """{points}: how many a surface has that VTK reads without a complaint."""
    module, name = SURFACES[os.path.splitext(path)[1].lower()]
    reader = getattr(importlib.import_module(f"vtkmodules.{module}"), name)()
    common: Any = importlib.import_module("vtkmodules.vtkCommonCore")
    faults: list[str] = []

    def heard(_caller: Any, _event: str, text: str = "") -> None:
        faults.append(text)

    heard.CallDataType = "string0"  # type: ignore[attr-defined]
    for event in ("ErrorEvent", "WarningEvent"):
        reader.AddObserver(event, heard)
    reader.SetFileName(path)
    if name == "vtkPolyDataReader" and not reader.IsFilePolyData():
        raise RuntimeError("it holds no polygons of VTK, DATASET POLYDATA")
    if name == "vtkPLYReader":
        _check_whole_ply(path)
    # Where a file is cut off VTK tells only its window, and goes on with what was in memory.
    before, window = common.vtkOutputWindow.GetInstance(), common.vtkStringOutputWindow()
    common.vtkOutputWindow.SetInstance(window)
    try:
        reader.Update()
    finally:
        common.vtkOutputWindow.SetInstance(before)
    if said := window.GetOutput().strip():
        faults.append(said.splitlines()[-1])
    if faults or reader.GetErrorCode():
        raise RuntimeError(" ".join(faults[0].split()) if faults else f"error {reader.GetErrorCode()} of VTK")
    if reader.GetOutput().GetNumberOfPoints() == 0:
        raise RuntimeError("it holds no points")
    return {"points": reader.GetOutput().GetNumberOfPoints()}, b""


def _check_whole_ply(path: str) -> None:
    """RuntimeError where a PLY of text has fewer rows than its header says, or a last one that is too short.

    VTK fills what is missing with what it has.
    """
    with open(path, "rb") as file:
        head, end, body = file.read().partition(b"end_header")
    header = [line.split() for line in head.splitlines()]
    if not end or [b"format", b"ascii"] not in [line[:2] for line in header]:
        return
    elements: list[tuple[int, list[list[bytes]]]] = []
    for words in header:
        if words[:1] == [b"element"] and len(words) == 3 and words[2].isdigit():
            elements.append((int(words[2]), []))
        elif words[:1] == [b"property"] and elements:
            elements[-1][1].append(words)
    rows = [line.split() for line in body.splitlines() if line.strip()]
    needed = sum(count for count, _ in elements)
    if len(rows) < needed:
        raise RuntimeError(f"it is cut off, {needed - len(rows)} of its {needed} rows are missing")
    properties = next((kinds for count, kinds in reversed(elements) if count), [])
    words, at = rows[needed - 1] if needed else [], 0
    for kind in properties:
        length = words[at] if kind[1:2] == [b"list"] and at < len(words) else b"0"
        at += 1 + (int(length) if length.isdigit() else 0)
    if at > len(words):
        raise RuntimeError("it is cut off, its last row is too short")


READERS = {"image": read_image, "field": read_field, "surface": read_surface, "transform": read_transform}


def main(what: str, path: str, limit: int | None) -> None:
    """Writes the answer, or {"error": …}, to stdout, which nothing else may use meanwhile."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if limit is not None:
        _limit(limit, CPU_SECONDS + CPU_SECONDS_PER_MB * os.path.getsize(path) / 2**20)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        about, voxels = READERS[what](path)
    except MemoryError:
        about, voxels = {"error": "it needs more memory than a file of its size should"}, b""
    except Exception as error:  # whatever ITK says: the one who asked makes a line of it
        about, voxels = {"error": str(error)}, b""
    answers.write(json.dumps(about).encode() + b"\n" + voxels)
    answers.close()


def _limit(memory: int, seconds: float) -> None:
    """Ends the process by a signal where it takes more than so many bytes, or computes for so many seconds more."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    until = math.ceil(time.process_time() + seconds)
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, until), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or hard > most:
            try:
                resource.setrlimit(
                    kind, (most, most + (kind == resource.RLIMIT_CPU))
                )  # at the harder one it is SIGKILL
            except (ValueError, OSError):  # macOS knows no limit of the address space
                continue


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
