"""What tests of the readers share."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_dicom import AXES, ORIGIN, SPACING


@pytest.fixture
def image():
    """14 slices of 12 × 10 voxels on an oblique grid."""
    made = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 3000, (14, 12, 10)).astype(np.uint16))
    made.SetSpacing(SPACING)
    made.SetDirection(AXES.ravel().tolist())
    made.SetOrigin(ORIGIN.tolist())
    return made
