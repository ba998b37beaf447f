"""Results of ``clmorph segment`` as they would be for scans of known volumes: made of maps, without registration."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from made_up import ellipsoid_atlas

from CLMorphCore.geometry import Grid, chain, displacement_field, field_voxels, placed
from CLMorphCore.io.checksums import seal
from CLMorphCore.io.transforms import write_transform
from CLMorphCore.reports.report import AtlasEntry, ModelEntry, QualityEntry, Report, SimilarityEntry, StructureEntry
from CLMorphCore.spatial import jacobian_determinant

SIDES = ("left", "right")
GROWN_MM = 6.0  # standard deviation of a place that grows


def points_of(grid: Grid) -> np.ndarray:
    """(D, H, W, 3): the voxel centres of a grid, LPS, mm."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return grid.points_mm(index.reshape(-1, 3)).reshape(*grid.shape, 3)


def growth(grid: Grid, centre_mm, amount: float) -> np.ndarray:
    """u(y) = a (y − c) exp(−|y − c|²/2σ²), mm: at c the volume is (1 + a)³ times as large."""
    away = points_of(grid) - np.asarray(centre_mm)
    return amount * away * np.exp(-np.square(away).sum(axis=-1, keepdims=True) / (2 * GROWN_MM**2))


def wobble(grid: Grid, random: np.random.Generator, size_mm: float = 0.4, smooth_mm: float = 5.0) -> np.ndarray:
    """A smooth random displacement of about that size, mm: how people differ."""
    noise = random.normal(size=(*grid.shape, 3)).astype(np.float32)
    smooth = [sitk.SmoothingRecursiveGaussian(placed(noise[..., n].copy(), grid), [smooth_mm] * 3) for n in range(3)]
    field = np.stack([sitk.GetArrayFromImage(one) for one in smooth], axis=-1).astype(float)
    return field * size_mm / field.std()


def write_result(folder: Path, atlas, moved_mm: np.ndarray, affine: sitk.AffineTransform | None = None, *, verdict=""):
    """The files of a scan of which atlas → scan is A⁻¹(y + u(y)), with the volumes that its structures have then."""
    grid = Grid.of(atlas.image)
    affine = affine or sitk.AffineTransform(3)
    own = sitk.DisplacementFieldTransform(placed(np.ascontiguousarray(moved_mm, dtype=float), grid, vectors=True))
    inverse = chain(sitk.AffineTransform(affine.GetInverse()), own)
    folder.mkdir(parents=True)
    write_transform(inverse, folder / "inverse.h5")
    ratio = jacobian_determinant(field_voxels(displacement_field(inverse, grid)))[0, 0].numpy()
    labels = sitk.GetArrayFromImage(atlas.labels)
    voxel_ml = float(np.prod(atlas.image.GetSpacing())) / 1000
    Report(
        version="0.1.0",
        image=folder.name,
        created="2026-01-01",
        model=ModelEntry("made-up"),
        atlas=AtlasEntry(atlas.name),
        device="cpu",
        threads=1,
        refinement_steps=0,
        structures=tuple(
            StructureEntry(s.value, s.name, s.color, "", float(ratio[labels == s.value].sum()) * voxel_ml)
            for s in atlas.structures
        ),
        quality=QualityEntry(None, None, "", verdict),
        similarity=SimilarityEntry("lncc", 0.5, 0.7),
        folding_fraction=0.0,
        duration_s={},
        warnings=(),
    ).save(folder / "report.json")
    seal(folder, folder, (), "report.json")
    return folder


def write_both_sides(folder: Path, atlas, moved_mm, affines) -> Path:
    """As ``write_result``, of an organ on both sides, each with its map; the right values lie above the left ones."""
    each = zip(SIDES, moved_mm, affines, strict=True)
    made = [write_result(folder / side, atlas, moved, affine) for side, moved, affine in each]
    reports = [Report.read(one / "report.json") for one in made]
    above, structures = max(s.value for s in atlas.structures), []
    for n, (side, own, report) in enumerate(zip(SIDES, made, reports, strict=True)):
        (own / "inverse.h5").rename(folder / f"{side}_inverse.h5")
        for s in report.structures:
            name = f"{side.capitalize()} {s.name[:1].lower()}{s.name[1:]}"
            structures.append(replace(s, value=s.value + n * above, name=name))
        (own / "report.json").unlink()
        own.rmdir()
    replace(reports[0], image=folder.name, structures=tuple(structures)).save(folder / "report.json")
    seal(folder, folder, (), "report.json")
    return folder


def oblique_atlas(size=(26, 30, 24), spacing_mm=2.0):
    """Two ellipsoids on an oblique, left-handed grid."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.1, -0.2, 0.3)
    axes = np.reshape(turn.GetMatrix(), (3, 3)) * [1, 1, -1]
    return ellipsoid_atlas(size, spacing_mm, origin=(-20.0, 10.0, 30.0), direction=axes.ravel().tolist())
