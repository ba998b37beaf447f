"""Small made-up data sets in the layouts of the real ones, a model, and systems that are quick or broken."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.config import from_dict
from CLMorphCore.models import Atlas, Structure
from CLMorphCore.networks import build
from CLMorphCore.phantom import make_phantom
from CLMorphCore.training import save_weights
from Training.benchmarks.systems import SYSTEMS, System

SIZE, SPACING_MM = (32, 36, 28), 1.5  # x, y, z
TURNED = (0.0, -1.0, 0.0, 0.96, 0.0, -0.28, 0.28, 0.0, 0.96)  # oblique, axes exchanged


def made_up_atlas() -> Atlas:
    """Two ellipsoids in a textured body on an oblique grid."""
    z, y, x = np.meshgrid(*[SPACING_MM * (np.arange(n) - (n - 1) / 2) for n in SIZE[::-1]], indexing="ij")
    image = np.where((x / 22) ** 2 + (y / 25) ** 2 + (z / 19) ** 2 < 1, 400 + 80 * np.sin(x / 4) * np.cos(y / 5), 0)
    labels = np.zeros(x.shape, np.uint8)
    for value, centre in ((1, -8), (2, 8)):
        inside = ((x - centre) / 6) ** 2 + (y / 9) ** 2 + (z / 7) ** 2 < 1
        image[inside], labels[inside] = 700 + 150 * value, value
    placed = [sitk.GetImageFromArray(a) for a in (image.astype(np.float32), labels)]
    for one in placed:
        one.SetSpacing([SPACING_MM] * 3)
        one.SetDirection(TURNED)
        one.SetOrigin((-20.0, 12.0, 30.0))
    return Atlas("made-up", *placed, (Structure(1, "Left", "#ff0000"), Structure(2, "Right", "#00ff00")))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order only, and no competition for the cores."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """DATA with hippocampi: one to train on, two to test; and a heart of two frames."""
    folder = tmp_path_factory.mktemp("data")
    atlas = made_up_atlas()
    made = [(atlas.image, atlas.labels)]
    for seed in (1, 2):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.5)
        made.append((phantom.image, phantom.labels))
    hippocampi, heart = folder / "Task04_Hippocampus", folder / "ACDC"
    for number, pair in enumerate(made):
        for image, kind in zip(pair, ("imagesTr", "labelsTr"), strict=True):
            (hippocampi / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(hippocampi / kind / f"hippocampus_{number:03d}.nii.gz"))
    split = "subject,split\nhippocampus_000,train\nhippocampus_001,test\nhippocampus_002,test\n"
    (hippocampi / "split.csv").write_text(split)
    patient = heart / "patient001"
    patient.mkdir(parents=True)
    for frame, (image, labels) in zip((1, 12), made, strict=False):
        labels[:, :18, :] = 3 * (labels[:, :18, :] > 0)  # hearts have three structures
        sitk.WriteImage(image, str(patient / f"patient001_frame{frame:02d}.nii.gz"))
        sitk.WriteImage(labels, str(patient / f"patient001_frame{frame:02d}_gt.nii.gz"))
    (patient / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\n")
    (heart / "split.csv").write_text("subject,split\npatient001,test\n")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a model: a small pyramid with fresh weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = from_dict({"network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8},
                        "data": {"spacing_mm": [2.0, 2.0, 2.0]}, "loss": {"regulariser": "diffusion"}})
    torch.manual_seed(0)
    folder.mkdir()
    save_weights(folder / "weights.safetensors", build(config.network.name, config.network.settings), config, step=0)
    return folder


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A system whose runner is the given lines, in the table of systems under the given name."""
    def add(name: str, *lines: str) -> System:
        script = tmp_path / f"run_{name}.py"
        script.write_text("import sys\nsys.path.insert(0, " + repr(str(RUNNERS)) + ")\nfrom runner import run\n\n"
                          "def register(job):\n" + "".join(f"    {line}\n" for line in lines) + "\nrun(register)\n")
        system = System(str(script), "demons", SYSTEMS["demons"].read, {})
        monkeypatch.setitem(SYSTEMS, name, system)
        return system

    return add


RUNNERS = Path(__file__).parents[3] / "Training" / "benchmarks" / "runners"
