"""Small made-up data sets in the layouts of the real ones, a model, and systems that are quick or broken."""

from pathlib import Path

import pytest
import SimpleITK as sitk
from made_up import ellipsoid_atlas, fresh_model

from CLMorphCore.bundles.phantom import make_phantom
from Training.benchmarks.tools import TOOLS, Tool

TURNED = (0.0, -1.0, 0.0, 0.96, 0.0, -0.28, 0.28, 0.0, 0.96)  # oblique, axes exchanged


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """DATA with hippocampi: one to train on, two to test; and a heart of two frames."""
    folder = tmp_path_factory.mktemp("data")
    atlas = ellipsoid_atlas(direction=TURNED, origin=(-20.0, 12.0, 30.0))
    made = [(atlas.image, atlas.labels)]
    for seed in (1, 2):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=2.5)
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
    return fresh_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A system whose runner is the given lines, in the table of systems under the given name."""

    def add(name: str, *lines: str) -> Tool:
        script = tmp_path / f"run_{name}.py"
        script.write_text(
            "import sys\nsys.path.insert(0, " + repr(str(RUNNERS)) + ")\nfrom runner import run\n\n"
            "def register(job):\n" + "".join(f"    {line}\n" for line in lines) + "\nrun(register)\n"
        )
        system = Tool(str(script), "demons", TOOLS["demons"].read, {})
        monkeypatch.setitem(TOOLS, name, system)
        return system

    return add


RUNNERS = Path(__file__).parents[3] / "Training" / "benchmarks" / "runners"
