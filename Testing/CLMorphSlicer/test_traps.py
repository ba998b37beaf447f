"""The known traps of exchanging data with 3D Slicer: each is shown to be there, and not to catch us.

Traps of the child process (how it is ended, which Python, encodings) are in test_job.py.
"""

import shutil
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer.util
import vtk
from CLMorphSlicerLib import display, exporting, nodes
from CLMorphSlicerLib.geometry import ijk_to_ras

FOLDING_MM = 40.0


def test_1_left_handed_files_are_flipped_by_slicer_but_keep_their_places(phantom_case, tmp_path):
    case = phantom_case("LAS")
    file = sitk.ReadImage(str(case.image))
    in_node, in_file = slicer.util.arrayFromVolume(case.volume), sitk.GetArrayFromImage(file)
    assert not np.array_equal(in_node, in_file)
    exporting.export_volume(case.volume, tmp_path / "exported.nii.gz")
    exported = sitk.ReadImage(str(tmp_path / "exported.nii.gz"))
    assert np.linalg.det(ijk_to_ras(exported)) != pytest.approx(np.linalg.det(ijk_to_ras(file)))
    back = sitk.Resample(exported, file, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(sitk.GetArrayFromImage(back), in_file)


def saved_transforms(headless: object, folder: object) -> list[str]:
    headless.save_scene(folder / "scene.mrb")
    with zipfile.ZipFile(folder / "scene.mrb") as bundle:
        names = [name for name in bundle.namelist() if "/Data/" in name]
        return [bundle.extract(name, folder) for name in names if "transform" in name.rsplit("/", 1)[1]]


def test_2_transform_is_kept_as_from_parent_which_itk_can_read(phantom_case, headless, tmp_path):
    case = phantom_case("RAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    (path,) = saved_transforms(headless, tmp_path)
    sitk.ReadTransform(path)
    results.transform.Inverse()
    (path,) = saved_transforms(headless, tmp_path)
    with pytest.raises(RuntimeError):
        sitk.ReadTransform(path)


def test_3_fields_are_exchanged_as_h5_and_never_as_nifti(phantom_case, headless, tmp_path):
    case = phantom_case("RAS")
    nodes.import_results(case.output, case.volume, case.atlas)
    assert {path.rsplit(".", 1)[1] for path in saved_transforms(headless, tmp_path)} == {"h5"}


def messages_while(action: object) -> str:
    """What VTK warns of meanwhile."""
    window, before = vtk.vtkStringOutputWindow(), vtk.vtkOutputWindow.GetInstance()
    vtk.vtkOutputWindow.SetInstance(window)
    try:
        action()
    finally:
        vtk.vtkOutputWindow.SetInstance(before)
    return window.GetOutput()


@pytest.mark.parametrize("inverse_given", [True, False])
def test_4_drawing_a_field_that_folds_does_not_search_for_its_inverse_in_vain(
    phantom_case, headless, tmp_path, inverse_given
):
    case = phantom_case("RAS", FOLDING_MM)
    output = shutil.copytree(case.output, tmp_path / "output")
    if not inverse_given:
        (output / "inverse.h5").unlink()
    results = nodes.import_results(output, case.volume, case.atlas)
    assert slicer.util.arrayFromVolume(results.jacobian).min() < 0.0
    view = headless.add_slice_view("Red", "Axial", 200)
    view.show(case.volume)

    def draw_ours() -> None:
        display.show_deformation(results.transform, display.DeformationStyle(in_3d=True))
        view.grab()

    def draw_whole_transform() -> None:
        results.transform.CreateDefaultDisplayNodes()
        shown = results.transform.GetDisplayNode()
        shown.SetVisualizationMode(shown.VIS_MODE_GRID)
        shown.SetVisibility(True)
        shown.SetVisibility2D(True)
        view.grab()

    assert messages_while(draw_ours) == ""
    assert "converge" in messages_while(draw_whole_transform)


def test_5_labels_are_those_of_the_engine_voxel_by_voxel(phantom_case):
    case = phantom_case("oblique")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(case.output / "labels.nii.gz")))
    segmentation = results.segmentation.GetSegmentation()
    for index, value in enumerate((1, 2, 5)):
        segment = segmentation.GetNthSegmentID(index)
        kept = slicer.util.arrayFromSegmentBinaryLabelmap(results.segmentation, segment, case.volume)
        assert np.array_equal(kept > 0, labels == value)


@pytest.mark.parametrize(("resolution", "part"), [(0.5, 1 / 8), (1.0, 1.0)])
def test_6_field_for_display_has_half_the_resolution(phantom_case, resolution, part):
    case = phantom_case("RAS")
    results = nodes.import_results(
        case.output, case.volume, case.atlas, loading=nodes.Loading(display_resolution=resolution)
    )
    vectors = slicer.util.arrayFromGridTransform(results.field)
    assert vectors.dtype == np.float32
    voxels = np.prod(case.volume.GetImageData().GetDimensions())
    assert np.prod(vectors.shape[:3]) == pytest.approx(part * voxels, rel=0.12)


def test_6_thick_slices_are_not_made_thicker(phantom_case):
    case = phantom_case("anisotropic")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    assert results.field.GetTransformToParent().GetDisplacementGrid().GetSpacing() == pytest.approx((2.4, 2.4, 5.0))


def test_7_jacobian_is_that_of_the_engine(phantom_case):
    case = phantom_case("LAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)
    of_engine = sitk.GetArrayFromImage(sitk.ReadImage(str(case.output / "jacobian.nii.gz")))
    assert np.array_equal(slicer.util.arrayFromVolume(results.jacobian), of_engine)


def test_fields_are_read_with_cubic_interpolation_and_set_to_linear(phantom_case):
    case = phantom_case("RAS")
    results = nodes.import_results(case.output, case.volume, case.atlas)

    def modes(node: object) -> list[str]:
        parts = vtk.vtkCollection()
        node.FlattenGeneralTransform(parts, node.GetTransformFromParent())
        items = (parts.GetItemAsObject(i) for i in range(parts.GetNumberOfItems()))
        return [part.GetInterpolationModeAsString() for part in items if part.IsA("vtkOrientedGridTransform")]

    read = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(case.output / "transform.h5"))
    assert storage.ReadData(read)
    assert modes(read) == ["Cubic"]
    assert modes(results.transform) == ["Linear"]
