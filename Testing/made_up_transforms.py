"""Oblique, left-handed and anisotropic grids, and transforms of every kind between them."""

import numpy as np
import SimpleITK as sitk

from CLMorphCore.geometry import Grid

TURN = sitk.Euler3DTransform((3.0, -2.0, 5.0), 0.3, -0.2, 0.5, (4.0, -6.0, 2.0))
GRIDS = {
    "oblique": Grid((22, 18, 14), (1.3, 1.9, 2.7), (-12.0, -20.0, -15.0), tuple(TURN.GetMatrix())),
    "left-handed": Grid((20, 16, 18), (2.1, 1.2, 1.7), (25.0, -14.0, -18.0), (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)),
}


def smooth_field(grid, seed=0, amplitude_mm=2.5):
    """A smooth map that fades to the identity at the border of its grid and does not fold."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape), indexing="ij")
    fade = (1 - z**2) ** 2 * (1 - y**2) ** 2 * (1 - x**2) ** 2
    waves = [np.sin(a * x + b * y + c * z + d) for a, b, c, d in random.uniform(-2, 2, (3, 4))]
    field = sitk.GetImageFromArray(amplitude_mm * np.stack(waves, -1) * fade[..., None], isVector=True)
    field.SetSpacing(grid.spacing_mm)
    field.SetOrigin(grid.origin_mm)
    field.SetDirection(grid.direction)
    return sitk.DisplacementFieldTransform(field)


def spline(grid, seed=0):
    """A B-spline over a grid."""
    domain = sitk.Image(grid.size, sitk.sitkUInt8)
    domain.SetSpacing(grid.spacing_mm)
    domain.SetOrigin(grid.origin_mm)
    domain.SetDirection(grid.direction)
    made = sitk.BSplineTransformInitializer(domain, (4, 4, 4))
    shape = np.array(made.GetParameters()).reshape(3, 7, 7, 7)
    inner = np.zeros_like(shape)
    inner[:, 2:5, 2:5, 2:5] = np.random.default_rng(seed).uniform(-1.5, 1.5, (3, 3, 3, 3))
    made.SetParameters(inner.ravel().tolist())
    return made


def in_slicer(scene, path, kind, storage):
    """The node of MRML, in a scene, that Slicer's own reader makes of a file."""
    import slicer

    node, reader = (getattr(slicer, f"vtkMRML{name}Node")() for name in (kind, f"{storage}Storage"))
    scene.AddNode(node)
    scene.AddNode(reader)
    reader.SetFileName(str(path))
    assert reader.ReadData(node), path
    return node
