"""Each peer that is installed: its field as this project reads it warps as the peer's own command does.

CLMORPH_PEERS names other Pythons that have peers: "greedy=/path/to/python fireants=/path/to/python".
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.geometry import Grid, resample
from Training.benchmarks.pairs import pairs_of, prepare
from Training.benchmarks.results import NOT_INSTALLED, OK
from Training.benchmarks.running import RUNNERS, RunSettings, planned_row, run
from Training.benchmarks.tools import TOOLS

PYTHONS = dict(word.split("=", 1) for word in os.environ.get("CLMORPH_PEERS", "").split())
# fixed image, moving image, folder of the runner's output, image to write: as the peer itself warps
OWN_WARP = {
    "syn-quick": """
import ants
found = ants.apply_transforms(ants.image_read(fixed), ants.image_read(moving), [folder + "/warp.nii.gz"],
                              interpolator=sys.argv[5])
ants.image_write(found, target)
""",
    "greedy": """
from picsl_greedy import Greedy3D
how = {"linear": "LINEAR", "nearestNeighbor": "NN"}[sys.argv[5]]
Greedy3D().execute(f"-d 3 -V 0 -rf {fixed} -ri {how} -rm {moving} {target} -r {folder}/warp.nii.gz")
""",
    "convexadam": """
import numpy as np
import SimpleITK as sitk
from convexAdam.apply_convex import apply_convex
image = sitk.ReadImage(moving, sitk.sitkFloat32)
field = np.load(folder + "/displacement_ijk.npy")
found = sitk.GetImageFromArray(apply_convex(field, sitk.GetArrayFromImage(image).T.copy()).T.astype("float32"))
found.CopyInformation(image)
sitk.WriteImage(found, target)
""",
    "fireants": """
import SimpleITK as sitk
from fireants.io import BatchedImages
from fireants.registration.greedy import GreedyRegistration
sys.path.insert(0, sys.argv[6])
from run_fireants import padded
images = [BatchedImages([padded(path)]) for path in (fixed, moving)]
registration = GreedyRegistration([4, 2, 1], [200, 100, 50], *images, progress_bar=False)
registration.optimize()
found = sitk.GetImageFromArray(registration.evaluate(*images)[0, 0].detach().numpy())
found.CopyInformation(sitk.ReadImage(folder + "/warp.nii.gz"))
sitk.WriteImage(sitk.Resample(found, sitk.ReadImage(fixed)), target)
""",
}


@pytest.fixture(scope="module")
def prepared(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    pair = pairs_of("hippocampus", data, "test", "random", folder)[0]
    return pair, prepare(pair, folder)


def own_warp(name, python, files, interpolation, tmp_path):
    target = tmp_path / "own.nii.gz"
    code = "import sys\nfixed, moving, folder, target = sys.argv[1:5]\n" + OWN_WARP[name]
    subprocess.run(
        [python, "-c", code, *map(str, files), str(tmp_path), str(target), interpolation, str(RUNNERS)],
        check=True,
        capture_output=True,
    )
    return sitk.GetArrayFromImage(sitk.ReadImage(str(target)))


@pytest.mark.parametrize("name", OWN_WARP)
def test_the_field_is_read_as_the_peer_means_it(name, prepared, tmp_path):
    pair, ready = prepared
    tool = TOOLS[name]
    python = PYTHONS.get(tool.package, sys.executable)
    row = run(planned_row(name, tool, pair, 1), tool, ready, tmp_path, RunSettings({tool.package: python}, 1, 600))
    if row.status == NOT_INSTALLED:
        pytest.skip(f"{name}: {row.reason}; install the peer, or name its Python in CLMORPH_PEERS")
    assert row.status == OK, row.reason
    assert row.dice > row.dice_affine + 0.02 and row.folding_fraction < 0.01

    transform, _ = tool.read(tmp_path, Grid.of(ready.fixed_labels))
    moving = sitk.ReadImage(str(ready.moving))
    found = sitk.GetArrayFromImage(resample(moving, Grid.of(ready.fixed_labels), transform))
    expected = own_warp(name, python, (ready.fixed, ready.moving), "linear", tmp_path)
    inner = (slice(4, -4),) * 3  # at the border each has its own idea of what lies outside
    moved = np.abs(found - sitk.GetArrayFromImage(moving))[inner].mean()
    assert moved > 10 and np.abs(found - expected)[inner].mean() < 0.05 * moved


@pytest.mark.parametrize("name", ["syn-quick", "greedy"])
def test_warped_labels_are_the_peers_own(name, prepared, tmp_path):
    pair, ready = prepared
    tool, labels = TOOLS[name], tmp_path / "labels.nii.gz"
    python = PYTHONS.get(tool.package, sys.executable)
    row = run(planned_row(name, tool, pair, 1), tool, ready, tmp_path, RunSettings({tool.package: python}, 1, 600))
    if row.status == NOT_INSTALLED:
        pytest.skip(f"{name}: {row.reason}; install the peer, or name its Python in CLMORPH_PEERS")
    grid = Grid.of(ready.fixed_labels)
    aligned = resample(ready.moving_labels, grid, ready.affine, labels=True)
    sitk.WriteImage(sitk.Cast(aligned, sitk.sitkUInt8), str(labels))
    found = sitk.GetArrayFromImage(resample(aligned, grid, tool.read(tmp_path, grid)[0], labels=True))
    expected = own_warp(name, python, (ready.fixed, labels), "nearestNeighbor", tmp_path)
    assert (found != expected).sum() < 0.005 * (found > 0).sum()
