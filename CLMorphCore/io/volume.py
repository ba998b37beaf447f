"""What a file holds, before it is an image: voxels, where they lie, and what has to be said about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import FileError

MIN_EXTENT_MM, MAX_EXTENT_MM = 0.5, 5000.0  # of a scan's longest side: an embryo's organ, a body
MAX_SIDE = 2**31 - 1
MAX_NUMBER = 1e15  # of a text header: sizes of files; beyond it nothing is meant
MAX_SHIFT_VOXELS = 0.1  # between two accounts of one grid, before it is said
SINGLE = 2.0**-24  # of a number, between it and what a float32 has of it
MILLIMETRES = ("mm", "millimeter", "millimetre", "millimeters", "millimetres", "???", "?", "none")
MAX_SHEAR = 1e-3  # cosine between two axes: NIfTI, which results are written as, has no place for more
MAX_STRAIGHTENED = 0.1  # of axes that are taken to be at right angles, 6°: a scan of a tilted gantry is another shape
NO_ORIGIN = "its header has no origin; its first voxel was taken at (0, 0, 0) mm"
FRONT = " (where they lie before the voxels, the header needs {} of so many)"
WARNING = "clmorph_warning_"  # keys of an image's metadata that hold what was said when it was read


@dataclass(frozen=True)
class Volume:
    """Voxels (z, y, x), or (z, y, x, components); ``to_mm`` is 4×4 from voxel (x, y, z) to LPS, mm.

    ``header`` are entries of the file's header that results are to take over, under the names that ITK has for them.
    """

    voxels: np.ndarray
    to_mm: np.ndarray
    warnings: tuple[str, ...] = ()
    header: Mapping[str, str] = field(default_factory=dict)


def to_image(volume: Volume) -> sitk.Image:
    """The volume as an image, with its warnings and its header in the metadata."""
    voxels = np.ascontiguousarray(volume.voxels.astype(volume.voxels.dtype.newbyteorder("="), copy=False))
    image = sitk.GetImageFromArray(voxels, isVector=voxels.ndim == 4)
    spacing = np.linalg.norm(volume.to_mm[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.to_mm[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(volume.to_mm[:3, 3].tolist())
    for key, value in volume.header.items():
        image.SetMetaData(key, value)
    for n, warning in enumerate(volume.warnings):
        image.SetMetaData(f"{WARNING}{n}", warning)
    return image


def warnings_of(image: sitk.Image) -> tuple[str, ...]:
    """What was said when an image was read: it goes into every report about it."""
    return tuple(image.GetMetaData(key) for key in sorted(image.GetMetaDataKeys()) if key.startswith(WARNING))


def add_warning(image: sitk.Image, warning: str) -> None:
    """Lets ``warnings_of`` the image tell one more."""
    image.SetMetaData(f"{WARNING}{len(warnings_of(image))}", warning)


def unreadable(path: Path, reason: str, kind: str = "") -> FileError:
    """The error of a file that is damaged: ``reason`` completes 'X cannot be read: …'."""
    return FileError(
        f"{path} cannot be read: {reason}",
        f"expected a complete {kind}{' ' if kind else ''}file; copy it again and check its size",
    )


def not_supported(path: Path, reason: str, expected: str = "whole numbers or floats of 8 to 64 bits") -> FileError:
    """The error of a sound file that holds what is not read."""
    return FileError(f"{path} cannot be read: {reason}; expected {expected}; convert it, for instance to NIfTI")


def check_other(header: Path, voxels: Path) -> None:
    """FileError where a header names itself as the file of its voxels: they would be the header's letters."""
    if voxels.exists() and voxels.samefile(header):
        raise unreadable(header, "it names itself as the file of its voxels")


def wrong_header(path: Path, reason: str, expected: str) -> FileError:
    """The error of a file whose header makes no sense, though it may be whole."""
    return FileError(f"{path} cannot be read: {reason}; expected {expected}; mend its header, or export it again")


def check_geometry(path: Path, to_mm: np.ndarray) -> None:
    """FileError unless a 4×4 matrix places a lattice: finite, no axis of length zero, no two in one plane."""
    if not (np.abs(to_mm) < MAX_NUMBER).all():
        raise wrong_header(path, "its header places it at numbers that are not finite", "a place in a room")
    lengths = np.linalg.norm(to_mm[:3, :3], axis=0)
    if not (lengths.min() > 1e-12 and lengths.max() < 1e12 and np.abs(to_mm[:3, 3]).max() < 1e12):
        raise FileError(
            f"{path} has voxels of {' × '.join(f'{n:.4g}' for n in lengths)} mm at "
            f"({', '.join(f'{n:.4g}' for n in to_mm[:3, 3])}); expected a size above zero and a place in a room; "
            "mend its header, or export it again"
        )
    if is_flat(to_mm):
        raise FileError(
            f"{path} has axes that lie in one plane; expected three directions at right angles; mend its header"
        )


def check_place(path: Path, to_mm: np.ndarray) -> None:
    """FileError where single precision, which results are written in, has no place as fine as such voxels."""
    far, least = float(np.abs(to_mm[:3, 3]).max()), float(np.linalg.norm(to_mm[:3, :3], axis=0).min())
    if far * SINGLE > MAX_SHIFT_VOXELS * least:
        raise FileError(
            f"{path} lies {far / 1e6:.4g} km from the origin, where single precision does not tell voxels of "
            f"{least:.4g} mm apart; expected a place in a room; mend its header, or export it again"
        )


def is_flat(matrix: np.ndarray) -> bool:
    """Whether an axis of a 4×4 placement has no length, or all three lie in one plane."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    return bool(lengths.min() <= 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3)


def size_warnings(sides: Sequence[int], to_mm: np.ndarray) -> list[str]:
    """A sentence about a grid that is too small or too large for a scan."""
    extent = np.linalg.norm(to_mm[:3, :3], axis=0) * np.array(sides)
    if MIN_EXTENT_MM <= extent.max() <= MAX_EXTENT_MM:
        return []
    return [f"the scan is {in_mm(extent)} large by its header; check the unit of its voxel size"]


def check_sides(path: Path, sides: Sequence[int]) -> int:
    """The number of voxels; FileError for sides that no file has."""
    if not sides or min(sides) < 1 or max(sides) > MAX_SIDE:
        raise wrong_header(path, f"its size is {' × '.join(map(str, sides)) or 'not given'}", "sides above zero")
    return math.prod(sides)


def numbers(path: Path, key: str, text: str, count: int | None = None) -> list[float]:
    """The finite numbers of a line of a text header; FileError that says which is none."""
    words = text.replace(",", " ").split()
    if count is not None and len(words) != count:
        raise wrong_header(path, f"its {key} has {len(words)} numbers", f"{count}")
    values = []
    for n, word in enumerate(words, start=1):
        try:
            value = float(word) if len(word) <= 64 and "_" not in word else math.nan
        except ValueError:
            value = math.nan
        if not abs(value) <= MAX_NUMBER:
            raise wrong_header(path, f"number {n} of its {key} is {word[:40]!r}", f"a number up to {MAX_NUMBER:g}")
        values.append(value)
    return values


def whole_numbers(path: Path, key: str, text: str, count: int | None = None) -> list[int]:
    """As ``numbers``, of whole ones."""
    values = numbers(path, key, text, count)
    for value in values:
        if value != round(value) or abs(value) > 2**53:
            raise wrong_header(path, f"its {key} holds {value:g}", "a whole number")
    return [int(value) for value in values]


def shift_voxels(sides: Sequence[int], to_mm: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """How far two placements of a grid are apart at its corners, at most: in voxels of the first, and in mm."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(sides) - 1)
    apart = corners @ (to_mm - other)[:3, :3].T + (to_mm - other)[:3, 3]
    voxels = apart @ np.linalg.inv(to_mm[:3, :3]).T
    return float(np.abs(voxels).max()), float(np.linalg.norm(apart, axis=1).max())


def shear_of(to_mm: np.ndarray) -> float:
    """The largest cosine between two axes of a placement."""
    axes = to_mm[:3, :3] / np.linalg.norm(to_mm[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def shear_voxels(sides: Sequence[int], to_mm: np.ndarray) -> float:
    """How far a grid's corners are from those of the nearest grid with right angles, in voxels."""
    return shift_voxels(sides, to_mm, at_right_angles(sides, to_mm))[0]


def straightened(volume: Volume, name: str) -> Volume:
    """The volume with axes at right angles, which ITK needs, and a word about it; one that is sheared more stays so."""
    if volume.voxels.ndim != 3 or not MAX_SHEAR < shear_of(volume.to_mm) <= MAX_STRAIGHTENED:
        return volume
    sides = volume.voxels.shape[::-1]
    straight = at_right_angles(sides, volume.to_mm)
    voxels, mm = shift_voxels(sides, volume.to_mm, straight)
    said = (
        f"{name}: its axes are sheared; the nearest ones at right angles were taken, which moves its voxels by up to "
        f"{mm:.3g} mm ({voxels:.3g} voxels)"
    )
    return replace(volume, to_mm=straight, warnings=volume.warnings + (said,) * (voxels > MAX_SHIFT_VOXELS))


def at_right_angles(sides: Sequence[int], to_mm: np.ndarray) -> np.ndarray:
    """The nearest placement with axes at right angles, of the same voxel size and about the same centre."""
    lengths = np.linalg.norm(to_mm[:3, :3], axis=0)
    left, _, right = np.linalg.svd(to_mm[:3, :3] / lengths)
    straight = to_mm.copy()
    straight[:3, :3] = left @ right * lengths
    centre = (np.array(sides) - 1) / 2
    straight[:3, 3] += (to_mm[:3, :3] - straight[:3, :3]) @ centre
    return straight


def in_mm(extent: Sequence[float] | np.ndarray) -> str:
    """'34 × 52 × 35 mm'."""
    return " × ".join(f"{n:.3g}" for n in extent) + " mm"


def unit_warnings(units: Sequence[str]) -> list[str]:
    """A sentence about the first unit that is none of ``MILLIMETRES``: text headers' units are for people."""
    other = next((word for word in units if word.lower() not in MILLIMETRES), "")
    said = f"its header's unit is {other[:40]}; its numbers were taken as millimetres, as other programs do"
    return [said] if other else []


def not_3d(path: Path, sides: Sequence[int]) -> FileError:
    """The error of a file that holds a slice, or several volumes."""
    return FileError(
        f"{path} has {len(sides)} dimensions, size {tuple(sides)}; expected a 3D image; extract one volume first"
    )


def spatial_axes(path: Path, sides: Sequence[int], axes: np.ndarray) -> tuple[list[int], list[int]]:
    """The three axes that are no axes of one, and the coordinates that they lie in; FileError for more or fewer."""
    keep, rows = list(range(len(sides))), list(range(len(sides)))
    for n in reversed(range(len(sides))):
        if len(keep) > 3 and sides[n] == 1:
            row = rows[int(np.argmax(np.abs(axes[rows, n])))]
            keep.remove(n)
            rows.remove(row)
    if len(keep) != 3:
        raise not_3d(path, sides)
    return keep, rows


def several_components(path: Path, kind: str, count: int) -> FileError:
    """The error of a file with more than one number a voxel."""
    return FileError(
        f"{path} has pixels of type {kind} with {count} components; expected one intensity per voxel; "
        "convert it to a scalar image"
    )
