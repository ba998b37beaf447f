"""A study: the scans of a table in the space of one atlas, tested voxel by voxel and structure by structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import SimpleITK as sitk

from ..bundles.atlas import Atlas, Structure
from ..errors import InputError, counted
from ..geometry import Grid, placed, resample
from ..io.files import short
from ..io.label_grid import on_grid_of
from ..progress import Progress, part, silent
from .design import Design, Table
from .statistics import Tested, check_installed, permutation_test
from .volumes import ONE, Inverse, Scan, read_inverse, read_scan, volume_map, working_grid

DEFAULT_PERMUTATIONS = 5000
FWHM_VOXELS = 4.0  # of the atlas, where no width is said
MIN_BACKGROUND = 0.1  # of an atlas image that is exactly zero, from which on what is above zero is the mask
MASK_MARGIN_VOXELS = 3  # about the labels, where that is the mask
SIGNIFICANT = 0.05
MAX_PEAKS = 12


@dataclass(frozen=True)
class Settings:
    """How a study is done. ``fwhm_mm`` None: FWHM_VOXELS of the atlas."""

    relative: bool = False
    fwhm_mm: float | None = None
    permutations: int = DEFAULT_PERMUTATIONS
    tfce: bool = False
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Peak:
    """The highest |t| of a connected significant region: where (LPS, mm), in which structure, and how large it is."""

    place_mm: tuple[float, float, float]
    structure: str
    volume_ml: float
    t: float
    p: float
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class TermResult:
    """What was found for a term: maps on the working grid, the tests of voxels and of structures, and the peaks.

    ``p`` is that of TFCE where it was asked for, else that of the greatest t. Of scans with both sides there is one for
    each ``side``, with its voxels out of one test of both, and the same test of structures.
    """

    voxels: Tested
    structures: Tested
    t: sitk.Image
    p: sitk.Image
    effect: sitk.Image
    peaks: tuple[Peak, ...]
    side: str = ""


@dataclass(frozen=True)
class Study:
    """Design, settings as they were used, scans, atlas, mask on the working grid, and a result for each term."""

    design: Design
    settings: Settings
    scans: int
    model: str
    atlas: Atlas
    mask: sitk.Image
    mask_is: str
    structures: tuple[Structure, ...]
    mean_ml: np.ndarray
    results: tuple[TermResult, ...]
    warnings: tuple[str, ...]
    sides: tuple[str, ...] = ONE


def read_scans(table: Table) -> tuple[Scan, ...]:
    """The results of all scans; InputError where they are of several models or atlases, or of one side and of both."""
    scans = tuple(read_scan(folder) for folder in table.folders)
    for what, names in (
        ("models", {s.report.model.name for s in scans}),
        ("kinds", {"both sides" if len(s.sides) > 1 else "one organ" for s in scans}),
        ("atlases", {s.report.atlas.name for s in scans if s.report.fusion is None}),
    ):
        if len(names) > 1:
            raise InputError(
                f"{table.path} has scans of several {what} ({short(', '.join(sorted(names)))}); expected one, in whose "
                "space they can be compared",
                "segment all scans with the same model and atlas",
            )
    return scans


def check_atlas(scans: Sequence[Scan], atlas: Atlas, *, names: bool) -> None:
    """InputError where scans have structures that are not the atlas': they were registered to another one.

    With ``names`` some of them have to be called as there.
    """
    above = max((s.value for s in atlas.structures), default=0)
    for scan in scans:
        known = {
            s.value + n * above: _of_side(s.name, side) for n, side in enumerate(scan.sides) for s in atlas.structures
        }
        own = {s.value: s.name for s in scan.report.structures}
        alike = not names or not own or any(known.get(value) == name for value, name in own.items())
        if own.keys() <= known.keys() and alike:
            continue
        other = [name for value, name in own.items() if known.get(value) != name]
        raise InputError(
            f"{scan.folder} has structures that the atlas {atlas.name} does not have ({short(', '.join(other), 80)}); "
            "expected the atlas that the scans were registered to",
            "give the `model` or `atlas` that they were segmented with, or omit it",
        )


def _of_side(name: str, side: str) -> str:
    """What a structure is called where there is one on each side."""
    return f"{side.capitalize()} {name[:1].lower()}{name[1:]}" if side else name


def analyse(
    scans: Sequence[Scan],
    design: Design,
    atlas: Atlas,
    settings: Settings,
    *,
    mask: sitk.Image | None = None,
    progress: Progress = silent,
) -> Study:
    """Tests every term of a design on the scans' volumes, in the space of their ``atlas``.

    ``mask`` lies on the atlas' grid; without one it is what the atlas image shows above zero, or, where its background
    is not zero, its labels and MASK_MARGIN_VOXELS around them. InputError for a mask on another grid or without voxels.
    """
    check_installed()
    grid = Grid.of(atlas.image)
    fwhm = settings.fwhm_mm if settings.fwhm_mm is not None else FWHM_VOXELS * float(np.mean(grid.spacing_mm))
    working = working_grid(grid, fwhm)
    inside, mask_is = _mask(atlas, mask)
    there = sitk.GetArrayFromImage(resample(inside, working, labels=True)) > 0
    tested = placed(there.astype(np.uint8), working)
    if not there.any():
        raise InputError(f"the mask ({mask_is}) has no voxel in the atlas; expected some", "give another one")
    sides, count = scans[0].sides, int(there.sum())
    measure = partial(volume_map, grid=grid, working=working, fwhm_mm=fwhm, relative=settings.relative)
    maps, of_scans = _of_scans(scans, measure, there, settings.relative, progress)
    structures, volumes = _volumes(scans, of_scans, atlas)
    results, both = [], _side_by_side(there, len(sides))
    for n, term in enumerate(design.terms):
        at = part(progress, 0.4 + 0.6 * n / len(design.terms), 0.4 + 0.6 * (n + 1) / len(design.terms))
        test = partial(
            permutation_test,
            design,
            term,
            permutations=settings.permutations,
            seed=settings.seed,
            threads=settings.threads,
        )
        voxels = test(maps, mask=both if settings.tfce else None, progress=part(at, 0.0, 0.9))
        of_structures = test(volumes)
        for place, side in enumerate(sides):
            own = voxels.part(slice(place * count, (place + 1) * count))
            results.append(_result(own, of_structures, tested, there, atlas, side))
    return Study(
        design=design,
        settings=replace(settings, fwhm_mm=fwhm),
        scans=len(scans),
        model=scans[0].report.model.name,
        atlas=atlas,
        mask=tested,
        mask_is=mask_is,
        structures=structures,
        mean_ml=volumes.mean(axis=0),
        results=tuple(results),
        warnings=_warnings(scans, settings.permutations),
        sides=sides,
    )


def _of_scans(
    scans: Sequence[Scan],
    measure: Callable[[Inverse], np.ndarray],
    there: np.ndarray,
    relative: bool,
    progress: Progress,
) -> tuple[np.ndarray, list[dict[int, float]]]:
    """Each scan's map in a mask, (N, V), of both sides one after the other, and its structures' volumes in ml."""
    maps, volumes = np.empty((len(scans), len(scans[0].sides) * int(there.sum())), np.float32), []
    for n, scan in enumerate(scans):
        progress("volumes", 0.4 * n / len(scans))
        inverses = [read_inverse(scan, side) for side in scan.sides]
        maps[n] = np.concatenate([measure(inverse)[there] for inverse in inverses])
        volumes.append(scan.volumes_ml(*(inverse.affine_ratio for inverse in inverses) if relative else ()))
    return maps, volumes


def _side_by_side(mask: np.ndarray, count: int) -> np.ndarray:
    """So many of a mask (D, H, W) along the first axis, with a gap between them: what lies in two is not connected."""
    gap = np.zeros((1, *mask.shape[1:]), bool)
    return np.concatenate([part for n in range(count) for part in ((gap, mask) if n else (mask,))])


def _mask(atlas: Atlas, mask: sitk.Image | None) -> tuple[sitk.Image, str]:
    """Where is tested, on the atlas' grid, and what that is in words."""
    if mask is not None:
        mask = on_grid_of(atlas.image, mask, names=("the atlas", "voxels of the mask"))
        return sitk.Cast(mask > 0, sitk.sitkUInt8), "as given"
    values = sitk.GetArrayViewFromImage(atlas.image)
    if np.mean(values == 0) >= MIN_BACKGROUND:
        return sitk.Cast(atlas.image > 0, sitk.sitkUInt8), "where the atlas is above zero"
    labelled = sitk.BinaryDilate(sitk.Cast(atlas.labels > 0, sitk.sitkUInt8), [MASK_MARGIN_VOXELS] * 3)
    return labelled, f"the atlas' labels and {MASK_MARGIN_VOXELS} voxels around them"


def _volumes(
    scans: Sequence[Scan], of_scans: Sequence[Mapping[int, float]], atlas: Atlas
) -> tuple[tuple[Structure, ...], np.ndarray]:
    """The structures that any scan has, and their volumes in ml, (N, S); 0 where a scan lacks one."""
    known = {s.value: Structure(s.value, s.name, s.color) for scan in scans for s in scan.report.structures}
    known |= {s.value: s for s in atlas.structures} if len(scans[0].sides) == 1 else {}
    values = [value for value in sorted(known) if any(value in volumes for volumes in of_scans)]
    table = np.array([[volumes.get(value, 0.0) for value in values] for volumes in of_scans], float)
    return tuple(known[value] for value in values), table


def _result(
    voxels: Tested, structures: Tested, mask: sitk.Image, there: np.ndarray, atlas: Atlas, side: str
) -> TermResult:
    def on_grid(values: np.ndarray, outside: float) -> sitk.Image:
        whole = np.full(there.shape, outside, np.float32)
        whole[there] = values
        image = sitk.GetImageFromArray(whole)
        image.CopyInformation(mask)
        return image

    p = voxels.p if voxels.p_tfce is None else voxels.p_tfce
    images = on_grid(voxels.t, 0.0), on_grid(p, 1.0), on_grid(voxels.effect, 0.0)
    return TermResult(voxels, structures, *images, _peaks(voxels, p, there, mask, atlas, side), side)


def _peaks(
    test: Tested, p: np.ndarray, there: np.ndarray, mask: sitk.Image, atlas: Atlas, side: str
) -> tuple[Peak, ...]:
    """The significant regions, growth and shrinkage apart, the most significant and the largest |t| first."""
    place = np.flatnonzero(there)
    names = {s.value: _of_side(s.name, side) for s in atlas.structures}
    voxel_ml = float(np.prod(mask.GetSpacing())) / 1000
    found = []
    for sign in (1, -1):
        significant = np.zeros(there.shape, np.uint8)
        significant.ravel()[place[(p < SIGNIFICANT) & (np.sign(test.t) == sign)]] = 1
        regions = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(significant), True)).ravel()
        number = regions[place]
        for region in range(1, int(regions.max()) + 1):
            own = np.flatnonzero(number == region)
            best = own[np.abs(test.t[own]).argmax()]
            where = Grid.of(mask).points_mm(np.stack(np.unravel_index(place[[best]], there.shape), axis=1))[0]
            found.append(
                Peak(
                    tuple(where.tolist()),
                    _structure_at(atlas.labels, where, names),
                    len(own) * voxel_ml,
                    *(float(of[best]) for of in (test.t, p, test.effect, test.low, test.high)),
                )
            )
    return tuple(sorted(found, key=lambda peak: (peak.p, -abs(peak.t)))[:MAX_PEAKS])


def _structure_at(labels: sitk.Image, point: np.ndarray, names: dict[int, str]) -> str:
    """The structure at a point, or '' where none is."""
    index = np.array(labels.TransformPhysicalPointToIndex(point.tolist()))
    if (index < 0).any() or (index >= labels.GetSize()).any():
        return ""
    return names.get(int(labels[index.tolist()]), "")


def _warnings(scans: Sequence[Scan], permutations: int) -> tuple[str, ...]:
    """How many scans were judged to be no good, or not looked at; and where nothing can be significant."""
    verdicts = Counter(scan.report.quality.verdict for scan in scans)
    said = [
        f"{verdicts[verdict]} of {len(scans)} scans have the verdict {verdict}; look at their reports, or omit them"
        for verdict in ("reject", "review")
        if verdicts[verdict]
    ]
    folded = [scan.folder.name for scan in scans if scan.report.folding_fraction > 0]
    if folded:
        said.append(f"the deformation folds in {counted(len(folded), 'scan')} ({short(', '.join(folded))})")
    if 1 / (1 + permutations) >= SIGNIFICANT:
        said.append(f"{permutations} permutations give no p below {SIGNIFICANT:g}; expected some thousands")
    return tuple(said)
