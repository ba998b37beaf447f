"""Labels by the thousand: a map of them goes on working in bounded time, an image that is given as one is refused."""

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import Atlas, default_structures
from CLMorphCore.errors import FileError
from CLMorphCore.io.images import read_labels
from CLMorphCore.segmentation import segment
from CLMorphCore.tissue import prepared
from CLMorphCore.tissue.classes import tissues_of


def blocks(like, side):
    """A label map whose every block of voxels is a structure."""
    z, y, x = np.indices(sitk.GetArrayViewFromImage(like).shape) // side
    values = 1 + np.unique((z * 1000 + y) * 1000 + x, return_inverse=True)[1].reshape(z.shape)
    made = sitk.GetImageFromArray(values.astype(np.int32))
    made.CopyInformation(like)
    return made


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.uint8])
def test_an_image_is_no_label_map(kind, tmp_path):
    values = np.random.default_rng(0).integers(0, 250 if kind == np.uint8 else 4000, (20, 21, 22)).astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "scan.nrrd"))
    with pytest.raises(FileError, match=r"look like an image: they hold \d+ values") as error:
        read_labels(tmp_path / "scan.nrrd")
    assert "\n" not in str(error.value)


def test_a_map_of_thousands_is_read(fine_atlas, tmp_path):
    sitk.WriteImage(blocks(fine_atlas.image, 3), str(tmp_path / "labels.nrrd"))
    assert len(np.unique(sitk.GetArrayFromImage(read_labels(tmp_path / "labels.nrrd")))) > 1500


def test_tissues_of_a_thousand_labels_are_told_apart_at_once(fine_atlas):
    groups = tissues_of(fine_atlas.image, blocks(fine_atlas.image, 4))  # 720 of them
    assert sorted(v for group in groups for v in group) == list(range(1, 721)) and len(groups) < 720


def test_labels_beyond_the_bound_follow_the_atlas_alone_and_it_is_said(fine_atlas, phantom, model):
    labels = blocks(fine_atlas.image, 3)
    values = np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
    many = Atlas("many", fine_atlas.image, labels, default_structures(values))
    found = segment(phantom.image, model, atlases=[many], affine=sitk.AffineTransform(3), tissue="on")
    assert any(f"the atlas has {len(values)} labels, more than 1000" in w for w in found.report.warnings)
    assert len(found.volumes_ml) > 1000


def test_labels_that_are_scattered_follow_the_atlas_alone_and_it_is_said(atlas, phantom, model, monkeypatch):
    monkeypatch.setattr(prepared, "MAX_BOX_VOXELS", 1000)
    found = segment(phantom.image, model, atlases=[atlas], affine=sitk.AffineTransform(3), tissue="on")
    assert any("lie scattered over too many voxels" in w for w in found.report.warnings)
