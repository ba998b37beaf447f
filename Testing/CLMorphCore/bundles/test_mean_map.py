"""Maps to many subjects less what they have in common: nothing of one is lost in the file, and their mean is none."""

import numpy as np
import SimpleITK as sitk

from CLMorphCore.bundles.mean_map import unbiased
from CLMorphCore.geometry import Grid, chain, placed

GRID = Grid((12, 14, 10), (1.5, 1.0, 2.0), (-8.0, 3.0, 5.0))
POINTS = GRID.points_mm(np.argwhere(np.ones((4, 4, 4))) + 3)


def found(shift, stretch, amount):
    """A map that stretches, after a smooth deformation in steps of 2⁻⁷ mm: as a registration's inverse is."""
    affine = sitk.AffineTransform(3)
    affine.Scale(stretch)
    affine.Translate([shift, -shift, 0.0])
    z, y, x = np.meshgrid(*(np.sin(np.linspace(0, np.pi, n)) for n in GRID.shape), indexing="ij")
    vectors = np.rint(np.stack([amount * x * y * z] * 3, axis=-1) * 128) / 128
    return chain(affine, sitk.DisplacementFieldTransform(placed(vectors, GRID, vectors=True)))


def mapped(transform):
    return np.array([transform.TransformPoint(p) for p in POINTS.tolist()])


def test_a_map_of_one_keeps_its_affine_and_its_deformation_to_the_last_bit():
    given = found(2.0, 1.1, 0.7)
    maps = unbiased(iter([given]), 1, GRID)
    assert len(maps) == len(list(maps)) == 1
    for n in range(2):
        assert maps[0].GetNthTransform(n).GetParameters() == given.GetNthTransform(n).GetParameters()
        assert maps[0].GetNthTransform(n).GetFixedParameters() == given.GetNthTransform(n).GetFixedParameters()


def test_what_all_have_in_common_is_taken_from_each():
    given = [found(3.0, 1.2, 0.5), found(-1.0, 0.9, 0.9)]
    left = unbiased(iter(given), 2, GRID)
    stretch = np.diag([1.05] * 3).ravel().tolist()  # the mean of both
    mean = sitk.AffineTransform(stretch, (0.0, 0.0, 0.0), GRID.corners_mm().mean(axis=0).tolist())
    there = mapped(chain(mean, found(0.0, 1.0, 0.7).GetNthTransform(1)))
    for own, one in zip(given, left, strict=True):
        reached = np.array([one.TransformPoint(p) for p in there.tolist()])
        assert np.abs(reached - mapped(own)).max() < 0.1  # to which ITK inverts a deformation of up to 0.7


def test_linear_maps_have_no_file():
    affine = sitk.AffineTransform(3)
    affine.Scale(1.25)
    maps = unbiased([affine], 1, GRID)
    assert maps.fields is None
    centre = GRID.corners_mm().mean(axis=0).tolist()
    assert np.allclose(maps[0].TransformPoint(centre), affine.TransformPoint(centre))
