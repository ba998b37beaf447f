"""Where a header's offset is too far for single precision, labels could not lie on the scan: refused."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.errors import FileError
from CLMorphCore.io.images import read_image, read_labels, write_image


def image(origin, spacing):
    made = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 90, (6, 7, 8)).astype(np.int16))
    made.SetOrigin(origin)
    made.SetSpacing([spacing] * 3)
    return made


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
@pytest.mark.parametrize(("far", "spacing"), [(1e9, 1.0), (1e7, 1.0), (1e6, 0.1), (-1e10, 2.0)])
@pytest.mark.parametrize("read", [read_image, read_labels])
def test_voxels_that_are_finer_than_their_place_are_refused(ending, far, spacing, read, tmp_path):
    sitk.WriteImage(image((0, far, 0), spacing), str(tmp_path / f"a{ending}"))
    with pytest.raises(FileError, match="km from the origin") as error:
        read(tmp_path / f"a{ending}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("far", "spacing"), [(1e6, 1.0), (5000.0, 0.01)])
def test_results_lie_on_a_scan_that_is_far_and_not_too_far(far, spacing, tmp_path):
    sitk.WriteImage(image((far, -far, far), spacing), str(tmp_path / "a.nrrd"))
    found = read_image(tmp_path / "a.nrrd")
    write_image(found, tmp_path / "b.nii.gz", scan=found)
    np.testing.assert_allclose(read_image(tmp_path / "b.nii.gz").GetOrigin(), (far, -far, far), atol=0.1 * spacing)
