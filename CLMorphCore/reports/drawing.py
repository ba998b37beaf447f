"""Pictures of volumes without a plotting library: slices in anatomical orientation as PNG, overlays and grids as SVG.

A picture is a rectangle in patient space (LPS, mm), so that any image, however it is oriented or spaced, is drawn in
the same orientation and with the right aspect. Radiological convention: the patient's left is on the picture's right.
SVG coordinates are millimetres from the rectangle's upper left corner.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import SimpleITK as sitk

from ..geometry import Grid

MAX_SIDE_PIXELS = 320
GRID_SAMPLES = 110
SMALL_MM = 30.0  # of a picture whose place is told in tenths
MAX_POINTS = 500_000
LETTER_SIZE = 0.05  # of the mean of the picture's sides
FOLD_COLOR = (255, 214, 0)
JACOBIAN_RANGE = 3.0  # the colours saturate at a volume ratio of 3 and of 1/3
# From blue (the atlas is smaller here) over white (same volume) to red (larger); equally spaced in log volume ratio.
JACOBIAN_COLORS = np.array([(24, 74, 140), (104, 162, 207), (247, 247, 245), (232, 138, 96), (158, 24, 38)], float)
UNCERTAINTY_COLORS = np.array([(255, 221, 87), (240, 120, 30), (200, 0, 20)], float)
AREA_OPACITY = 88
OUTLINE_GREY = (96, 96, 96)
UNNAMED_COLOR = (160, 160, 160)

Colors = Mapping[int, tuple[int, int, int]]


@dataclass(frozen=True)
class View:
    """An anatomical plane: the LPS directions of a picture's right and lower edge, and its letters."""

    name: str
    right: tuple[int, int, int]
    down: tuple[int, int, int]
    letters: str  # left, right, top, bottom

    @property
    def normal(self) -> np.ndarray:
        """LPS unit vector away from the viewer; right, down and normal are right-handed."""
        return np.cross(self.right, self.down)


AXIAL = View("axial", (1, 0, 0), (0, 1, 0), "RLAP")
CORONAL = View("coronal", (1, 0, 0), (0, 0, -1), "RLSI")
SAGITTAL = View("sagittal", (0, 1, 0), (0, 0, -1), "APSI")
VIEWS = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class Frame:
    """A rectangle in patient space that a picture shows: its upper left corner and its size, LPS, mm."""

    view: View
    corner_mm: tuple[float, float, float]
    width_mm: float
    height_mm: float
    pixel_mm: float

    @property
    def pixels(self) -> tuple[int, int]:
        """(columns, rows)."""
        return max(1, round(self.width_mm / self.pixel_mm)), max(1, round(self.height_mm / self.pixel_mm))

    @property
    def position(self) -> str:
        """Where the plane lies, in words: 'S 12 mm'."""
        axis = int(np.argmax(np.abs(self.view.normal)))
        letter = ("LR", "PA", "SI")[axis][int(self.corner_mm[axis] < 0)]
        digits = 0 if max(self.width_mm, self.height_mm) > SMALL_MM else 1
        return f"{letter} {abs(self.corner_mm[axis]):.{digits}f} mm"

    def grid(self) -> tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Size, origin, spacing and direction of the picture as an image one voxel thick."""
        columns, rows = self.pixels
        step_right, step_down = self.width_mm / columns, self.height_mm / rows
        axes = np.stack([self.view.right, self.view.down, self.view.normal], axis=1).astype(float)
        origin = np.array(self.corner_mm) + axes @ (step_right / 2, step_down / 2, 0)
        return (columns, rows, 1), tuple(origin), (step_right, step_down, 1.0), tuple(axes.ravel())


def bounds_mm(image: sitk.Image) -> np.ndarray:
    """(2, 3): the least and the greatest LPS coordinates of the image's outer edges, mm."""
    size = image.GetSize()
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in size], indexing="ij")).reshape(3, -1).T
    points = np.array([image.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners.tolist()])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def labelled_points_mm(labels: sitk.Image) -> np.ndarray:
    """(N, 3): LPS positions of the voxels that carry a label, mm; of evenly chosen ones where there are very many."""
    voxels = sitk.GetArrayViewFromImage(labels)
    places = np.flatnonzero(voxels)
    places = places[:: 1 + len(places) // MAX_POINTS]
    return Grid.of(labels).points_mm(np.stack(np.unravel_index(places, voxels.shape), axis=1))


def fullest_position(points_mm: np.ndarray, bin_mm: float) -> tuple[float, float, float]:
    """Per axis the plane that most points lie near: where a structure, or one of several, shows best."""
    place = []
    for coordinates in points_mm.T:
        bins = np.arange(coordinates.min() - 2 * bin_mm, coordinates.max() + 3 * bin_mm, bin_mm)
        counts, edges = np.histogram(coordinates, bins)
        smooth = np.convolve(counts, np.ones(3), "same")
        # The middle of all bins that come near the fullest, not the first of them: the middle of a straight tube.
        best = np.flatnonzero(smooth >= 0.98 * smooth.max())
        place.append(float(edges[best[len(best) // 2]] + bin_mm / 2))
    return place[0], place[1], place[2]


def frame(view: View, box_mm: np.ndarray, place_mm: tuple[float, float, float], pixel_mm: float) -> Frame:
    """The rectangle of the box (2, 3; LPS, mm) in the plane through a point."""
    directions = np.array([view.right, view.down])
    corner = np.array(place_mm)
    for direction in directions:
        axis = int(np.argmax(np.abs(direction)))
        corner[axis] = box_mm[0 if direction[axis] > 0 else 1, axis]
    width, height = (float(np.abs(direction) @ (box_mm[1] - box_mm[0])) for direction in directions)
    return Frame(view, tuple(corner.tolist()), width, height, pixel_mm)


def sample(image: sitk.Image, where: Frame, *, nearest: bool = False, outside: float = 0.0) -> np.ndarray:
    """The image's values (rows, columns) in the rectangle; linear, or of the nearest voxel for labels."""
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    kind = sitk.sitkUnknown if nearest else sitk.sitkFloat32
    drawn = sitk.Resample(image, where.grid()[0], sitk.Transform(), interpolator, *where.grid()[1:], outside, kind)
    return sitk.GetArrayFromImage(drawn)[0]


def window(image: sitk.Image) -> tuple[float, float]:
    """The intensities that are drawn black and white: percentiles 1 and 99.5 of what is not the darkest value."""
    values = sitk.GetArrayViewFromImage(image)[::2, ::3, ::3].astype(np.float32)
    values = values[np.isfinite(values)]
    tissue = values[values > values.min()] if values.size else values
    if tissue.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(tissue, (1, 99.5))
    return float(min(low, values.min() + 0.1 * (high - low))), float(max(high, low + 1e-6))


def grey_png(values: np.ndarray, limits: tuple[float, float]) -> bytes:
    """A grey picture of values (rows, columns), black and white at the limits."""
    return png(_grey(values, limits))


def outlined(values: np.ndarray, limits: tuple[float, float], labels: np.ndarray, colors: Colors) -> np.ndarray:
    """(rows, columns, 3) uint8: values in grey, black and white at the limits, labels' outlines in their colours."""
    picture = np.repeat(_grey(values, limits)[..., None], 3, axis=2)
    edge = _outline(labels)
    picture[edge] = _colored(labels, colors, edge, 255)[edge][:, :3]
    return picture


def rgb(color: str) -> tuple[int, int, int]:
    """The numbers of '#rrggbb'."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _grey(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    scaled = (np.nan_to_num(values) - low) / max(high - low, 1e-12)
    return (255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def areas_png(labels: np.ndarray, colors: Colors) -> bytes:
    """Labels (rows, columns) as see-through areas in their colours."""
    return png(_colored(labels, colors, labels != 0, AREA_OPACITY))


def outlines_png(labels: np.ndarray, colors: Colors) -> bytes:
    """The outlines of labels (rows, columns) in their colours."""
    return png(_colored(labels, colors, _outline(labels), 255))


def jacobian_png(determinants: np.ndarray, folds: np.ndarray, labels: np.ndarray) -> bytes:
    """Volume ratios (rows, columns) in diverging colours about 1, folds marked, the labels' outlines in grey."""
    picture = jacobian_color(determinants)
    picture[_outline(labels)] = OUTLINE_GREY
    picture[_grown(folds, 2)] = (0, 0, 0)
    picture[_grown(folds, 1)] = FOLD_COLOR
    return png(picture)


def jacobian_color(determinants: np.ndarray) -> np.ndarray:
    """(..., 3) uint8: the colour of a volume ratio, white at 1, symmetrical in its logarithm."""
    clipped = np.clip(determinants, 1 / JACOBIAN_RANGE, JACOBIAN_RANGE)
    return _between(JACOBIAN_COLORS, (np.log(clipped) / np.log(JACOBIAN_RANGE) + 1) / 2)


def uncertainty_png(disagreements: np.ndarray, labels: np.ndarray) -> bytes:
    """Shares 0…1 (rows, columns), transparent at 0, from yellow to red, with the labels' outlines in grey."""
    share = np.clip(disagreements, 0, 1)
    picture = np.zeros((*share.shape, 4), np.uint8)
    picture[..., :3] = _between(UNCERTAINTY_COLORS, share)
    picture[..., 3] = (np.sqrt(share) * 235).round()
    picture[_outline(labels)] = (*OUTLINE_GREY, 255)
    return png(picture)


def _between(colors: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(..., 3) uint8: equally spaced colours (N, 3), interpolated at places 0…1."""
    stops = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(place, stops, channel) for channel in colors.T], axis=-1).round().astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    """A PNG file of a uint8 array: (rows, columns) grey, (rows, columns, 3) RGB or (rows, columns, 4) RGBA."""
    rows, columns = picture.shape[:2]
    kind = {1: 0, 3: 2, 4: 6}[1 if picture.ndim == 2 else picture.shape[2]]
    flat = picture.reshape(rows, -1)
    # Filter 2: each row as its difference (modulo 256) from the row above, which compresses pictures better.
    differences = np.diff(flat, axis=0, prepend=np.zeros((1, flat.shape[1]), np.uint8))
    lines = np.concatenate([np.full((rows, 1), 2, np.uint8), differences], axis=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    data = zlib.compress(lines.tobytes())
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def indexed_png(picture: np.ndarray) -> bytes:
    """A PNG file of (rows, columns, 3) uint8 of few colours, a third of the size; as ``png`` where they are many."""
    colors, places = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) > 256:
        return png(picture)
    rows, columns = picture.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    lines = np.pad(places.reshape(rows, columns).astype(np.uint8), ((0, 0), (1, 0)))  # filter 0: no differences
    parts = (
        (b"IHDR", header),
        (b"PLTE", colors.tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def svg_image(data: bytes, where: Frame, name: str = "") -> str:
    """A PNG that fills the rectangle; with a name it can be drawn again by `svg_again`."""
    identity = f' id="{escape(name)}"' if name else ""
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<image{identity} width="{where.width_mm:.2f}" height="{where.height_mm:.2f}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{source}"/>'
    )


def svg_again(name: str, *, dimmed: bool = False) -> str:
    """What was drawn under this name elsewhere on the page."""
    opacity = ' opacity="0.55"' if dimmed else ""
    return f'<use href="#{escape(name)}"{opacity}/>'


def svg_grid(where: Frame, transform: sitk.Transform, affine: sitk.Transform, step_mm: float) -> str:
    """The lines of a regular grid on the affinely aligned atlas as the deformation carries them onto the patient.

    A⁻¹(T(p)) says which point of the undeformed grid lies at p. A line is where one of its in-plane coordinates is a
    multiple of `step_mm`, so that lines are straight where nothing is deformed.
    """
    coarse = replace(where, pixel_mm=max(where.width_mm, where.height_mm) / GRID_SAMPLES)
    across, along, xs, ys = _undeformed_coordinates(coarse, transform, affine)
    lines = _level_lines(across, xs, ys, step_mm)
    lines += [line[:, ::-1] for line in _level_lines(along.T, ys, xs, step_mm)]
    path = "".join("M" + " ".join(f"{x:.4g} {y:.4g}" for x, y in line) for line in lines)
    return f'<path class="grid" d="{path}"/>'


def svg_letters(where: Frame) -> str:
    """The directions at the picture's edges."""
    width, height = where.width_mm, where.height_mm
    size = _letter_mm(where)
    margin = 0.75 * size
    places = ((margin, height / 2), (width - margin, height / 2), (width / 2, margin), (width / 2, height - margin))
    marks = [
        f'<text x="{x:.4g}" y="{y:.4g}">{letter}</text>'
        for letter, (x, y) in zip(where.view.letters, places, strict=True)
    ]
    return f'<g class="letters" font-size="{size:.2f}">{"".join(marks)}</g>'


def svg_scale_bar(where: Frame) -> str:
    """A bar of a round length in the lower right corner."""
    size = 0.8 * _letter_mm(where)
    length = round_length(where.width_mm / 4)
    right, y = where.width_mm - 0.7 * size, where.height_mm - 0.7 * size
    return (
        f'<g class="letters" font-size="{size:.2f}">'
        f'<path class="bar" d="M{right - length:.4g} {y:.4g}h{length:g}"/>'
        f'<text class="end" x="{right:.4g}" y="{y - 0.8 * size:.4g}">{length:g} mm</text></g>'
    )


def svg_box(where: Frame, other: Frame) -> str:
    """The outline of another rectangle of the same view."""
    offset = np.subtract(other.corner_mm, where.corner_mm)
    x, y = float(offset @ where.view.right), float(offset @ where.view.down)
    return f'<rect class="part" x="{x:.4g}" y="{y:.4g}" width="{other.width_mm:.4g}" height="{other.height_mm:.4g}"/>'


def svg_panel(where: Frame, description: str, content: str) -> str:
    """A picture of the rectangle with a description for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {where.width_mm:.2f} {where.height_mm:.2f}" role="img" '
        f'aria-label="{escape(description)}">{content}</svg>'
    )


def round_length(length_mm: float) -> float:
    """The greatest of 1, 2, 5, 10, 20, 50 ... that is not above the length."""
    power = 10.0 ** np.floor(np.log10(length_mm))
    return float(max(digit * power for digit in (1, 2, 5) if digit * power <= length_mm * (1 + 1e-9)))


def _letter_mm(where: Frame) -> float:
    """Pictures are shown in rows of one height or, on a phone, in columns of one width: letters suit both."""
    return LETTER_SIZE * math.sqrt(where.width_mm * where.height_mm)


def _undeformed_coordinates(
    where: Frame, transform: sitk.Transform, affine: sitk.Transform
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """In-plane coordinates of A⁻¹(T(p)), each (rows, columns), and the pictures' own xs and ys; mm from the corner."""
    size, origin, spacing, direction = where.grid()
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size, origin, spacing, direction)
    right, down = np.array(where.view.right, float), np.array(where.view.down, float)
    xs, ys = (np.arange(size[0]) + 0.5) * spacing[0], (np.arange(size[1]) + 0.5) * spacing[1]
    points = np.array(where.corner_mm) + xs[None, :, None] * right + ys[:, None, None] * down
    mapped = points + sitk.GetArrayFromImage(field)[0]
    offset = np.array(affine.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.stack([affine.TransformPoint(axis) for axis in np.eye(3).tolist()], axis=1) - offset[:, None]
    undeformed = (mapped - offset) @ np.linalg.inv(matrix).T - where.corner_mm
    return undeformed @ right, undeformed @ down, xs, ys


def _level_lines(coordinate: np.ndarray, xs: np.ndarray, ys: np.ndarray, step_mm: float) -> list[np.ndarray]:
    """Lines (N, 2) of x and y on which a coordinate (rows, columns) that grows along x is a multiple of the step."""
    # Where the field folds, a coordinate runs back: its running maximum keeps one crossing per row and line.
    growing = np.maximum.accumulate(coordinate, axis=1)
    levels = np.arange(np.ceil(growing.min() / step_mm), np.floor(growing.max() / step_mm) + 1) * step_mm
    crossings = np.array([np.interp(levels, row, xs, left=np.nan, right=np.nan) for row in growing])
    lines = []
    for crossing in crossings.T:
        inside = np.flatnonzero(~np.isnan(crossing))
        runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
        lines += [np.stack([crossing[run], ys[run]], axis=1) for run in runs if len(run) > 1]
    return lines


def _colored(labels: np.ndarray, colors: Colors, where: np.ndarray, opacity: int) -> np.ndarray:
    """RGBA (rows, columns, 4): the labels' colours in some pixels, nothing elsewhere."""
    values, places = np.unique(labels, return_inverse=True)
    table = np.array([(*colors.get(int(value), UNNAMED_COLOR), opacity) for value in values], np.uint8)
    return np.where(where[..., None], table[places.reshape(labels.shape)], np.uint8(0))


def _outline(labels: np.ndarray) -> np.ndarray:
    """Pixels of a label at whose left or upper side another one begins, or at any side the background."""
    padded = np.pad(labels, 1, mode="edge")
    left, right, up, down = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    return (labels != 0) & ((left != labels) | (up != labels) | (right == 0) | (down == 0))


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask and every pixel within a square of that many pixels about it."""
    grown = np.zeros_like(mask)
    padded = np.pad(mask, pixels)
    for down in range(2 * pixels + 1):
        for right in range(2 * pixels + 1):
            grown |= padded[down : down + mask.shape[0], right : right + mask.shape[1]]
    return grown


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
