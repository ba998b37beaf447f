"""The real engine between two nodes: what it writes for an exported volume lies on the same points of the patient."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")
pytest.importorskip("torch", reason="the engine needs torch")

import phantom
import slicer
import torch
from CLMorphSlicerLib import display, exporting, nodes
from CLMorphSlicerLib.results import Results
from places import (
    FLIP,
    TOLERANCE_MM,
    greatest_disagreement,
    greatest_distance,
    labelmap_node,
    linear_node,
    random_points,
    ras_points,
    segment_points,
)
from qt_fixtures import write_bundle

sys.path.append(str(Path(__file__).parents[2]))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A model that has learned nothing but moves points by some millimetres, with the phantom's atlas."""
    from CLMorphCore.bundles.config import from_dict
    from CLMorphCore.networks import build
    from CLMorphCore.training.loop import save_weights

    folder = write_bundle(tmp_path_factory.mktemp("models") / "untrained")
    config = from_dict(
        {
            "network": {"name": "clmorph", "channels": [4, 8, 8], "field_level": 1, "diffeomorphic": True},
            "data": {"spacing_mm": [4.0, 4.0, 4.0]},
        }
    )
    torch.manual_seed(0)
    network = build(config.network.name, config.network.settings)
    with torch.no_grad():
        network.mean.weight.normal_(0.0, 100.0)
        network.mean.bias.copy_(torch.tensor([1.0, -0.7, 0.5]))  # voxels of 4 mm
    save_weights(folder / "weights.safetensors", network, config, step=0)
    return folder


def segment(volume: object, folder: Path, bundle: Path, *options: object) -> Path:
    """Export a volume and run the engine's command on it; the folder of its output."""
    from CLMorphCore.cli import main

    exporting.export_volume(volume, folder / "input.nii.gz")
    command = ["segment", folder / "input.nii.gz", "--model", bundle, "-o", folder / "output", *options]
    assert main([*map(str, command), "--device", "cpu", "--progress", "none"]) == 0
    return folder / "output"


def atlas_file(bundle: Path) -> Path:
    return bundle / "atlases" / "phantom" / "image.nii.gz"


def check_places(results: Results, output: Path) -> None:
    """Labels and transform of the scene are those of the engine, point for point."""
    labels = sitk.ReadImage(str(output / "labels.nii.gz"))
    for structure in phantom.STRUCTURES:
        truth, got = ras_points(labels, structure["value"]), segment_points(results.segmentation, structure["name"])
        assert len(truth) > 50
        assert greatest_distance(truth, got) < TOLERANCE_MM
    engine = sitk.ReadTransform(str(output / "transform.h5"))
    assert greatest_disagreement(results.transform, engine, random_points(results.volume)) < TOLERANCE_MM
    assert display.max_displacement_mm(results.transform) > 1.0  # else nothing was shown


@pytest.mark.parametrize("grid", phantom.GRIDS)
def test_real_engine_keeps_places_on_every_kind_of_grid(headless, phantom_files, bundle, tmp_path, grid):
    volume = headless.load_volume(phantom_files(grid) / "Patient.nii.gz")
    output = segment(volume, tmp_path, bundle)
    results = nodes.import_results(output, volume, atlas_file(bundle))
    check_places(results, output)
    # the network knows nothing, the affine does: a structure is near its place, and a mirrored one would be 30 mm off
    truth = sitk.Resample(phantom.atlas()[1], phantom.grid(grid), phantom.transform(), sitk.sitkNearestNeighbor)
    for structure in phantom.STRUCTURES:
        centre = ras_points(truth, structure["value"]).mean(axis=0)
        found = segment_points(results.segmentation, structure["name"]).mean(axis=0)
        assert np.linalg.norm(found - centre) < 20.0


def test_real_engine_with_the_scenes_own_atlas_and_initial_transform(headless, phantom_files, bundle, tmp_path):
    volume = headless.load_volume(phantom_files("oblique") / "Patient.nii.gz")
    volume.SetAndObserveTransformNodeID(linear_node().GetID())
    atlas = headless.load_volume(atlas_file(bundle))
    exporting.export_volume(atlas, tmp_path / "atlas.nii.gz")
    labels = labelmap_node(phantom.atlas()[1])
    exporting.export_labels(labels, atlas, tmp_path / "labels.nii.gz", tmp_path / "names.csv")
    start = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Start")
    onto_patient = slicer.util.arrayFromTransformMatrix(volume.GetParentTransformNode()) @ ras_matrix(
        phantom.affine().GetInverse()
    )
    start.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(onto_patient))
    exporting.export_initial_transform(start, tmp_path / "initial.tfm")
    output = segment(
        volume,
        tmp_path,
        bundle,
        "--atlas",
        tmp_path / "atlas.nii.gz",
        "--atlas-labels",
        tmp_path / "labels.nii.gz",
        "--label-names",
        tmp_path / "names.csv",
        "--affine",
        tmp_path / "initial.tfm",
    )
    results = nodes.import_results(output, volume, tmp_path / "atlas.nii.gz", atlas)
    used = results.affine.GetTransformToParent().TransformPoint(10.0, 20.0, 30.0)
    assert used == pytest.approx((onto_patient @ [10.0, 20.0, 30.0, 1.0])[:3], abs=TOLERANCE_MM)
    labels = sitk.ReadImage(str(output / "labels.nii.gz"))
    names = [results.segmentation.GetSegmentation().GetNthSegment(i).GetName() for i in range(3)]
    for value, name in zip((1, 2, 5), names, strict=True):
        assert greatest_distance(ras_points(labels, value), segment_points(results.segmentation, name)) < TOLERANCE_MM


def ras_matrix(transform: sitk.Transform) -> np.ndarray:
    """(4, 4) of a linear LPS transform in RAS, from where it moves four points to."""
    matrix = np.eye(4)
    moved = [np.array(transform.TransformPoint((FLIP * p).tolist())) * FLIP for p in [*np.eye(3), np.zeros(3)]]
    matrix[:3, 3] = moved[3]
    matrix[:3, :3] = np.transpose(moved[:3] - moved[3])
    return matrix
