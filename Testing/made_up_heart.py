"""A made-up heart that beats: two ventricles in a body, whose volumes are known in every frame."""

import math

import numpy as np
import SimpleITK as sitk
from made_up import Ellipsoid, ellipsoid_atlas

from CLMorphCore.bundles.atlas import Atlas, Structure

HEART = (
    Structure(1, "Right ventricle", "#4f8fd8", "SCT^53085002^Right ventricle"),
    Structure(3, "Left ventricle", "#e0b040", "SCT^87878005^Left ventricle"),
)
COUNT, FIRST = 6, 2  # frames, and the one of them that is end-diastole
ES = 5  # and the one that is end-systole
SIZES = (1.0, 0.93, 0.84, 0.77, 0.84, 0.93)  # of the left ventricle's radii, from end-diastole on
STEP_S = 0.05


def beating(n: int) -> Atlas:
    """Frame n's atlas, its image without noise."""
    size = SIZES[(n - FIRST) % COUNT]
    radii = (10.0 * size, 9.0 * size, 11.0 * size)
    heart = {1: Ellipsoid((-11, 0, 0), (6, 8, 8), 900.0), 3: Ellipsoid((8, 1, 0), radii, 1100.0)}
    return ellipsoid_atlas((36, 32, 28), 1.5, ellipsoids=heart, structures=HEART, origin=(-20.0, 11.0, 5.0))


def left_ml(n: int) -> float:
    """4/3 π a b c of the left ventricle, ml."""
    return 4 / 3 * math.pi * 10 * 9 * 11 * SIZES[(n - FIRST) % COUNT] ** 3 / 1000


def noisy(image: sitk.Image, seed: int) -> sitk.Image:
    values = sitk.GetArrayFromImage(image)
    values += np.random.default_rng(seed).normal(0, 15, values.shape).astype(np.float32)
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    return made
