"""A synthetic patient: the atlas of a shipped model, warped by a known smooth field. Nothing is downloaded.

The module Sample Data copies the model's card into its cache, and SampleReader makes the patient that it names: so the
button and SampleData.downloadSample("CLMorphHippocampus") go the same way. Sample Data's custom downloader would be
called by the button alone.
"""

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from .geometry import ijk_to_ras
from .models import ModelCard, atlas_image, shipped_models
from .words import _

SAMPLE_TYPE = "CLMorphSample"
AMPLITUDE = 0.04  # largest displacement along an axis, as a fraction of the image's extent


def known_field(image: sitk.Image) -> sitk.Transform:
    """p -> p + u(p) with u a half wave along each axis, zero at the border."""
    indices = np.meshgrid(*[np.linspace(0, 1, count) for count in reversed(image.GetSize())], indexing="ij")
    bump = np.prod([np.sin(np.pi * index) for index in indices], axis=0)
    extent = np.array(image.GetSize()) * np.array(image.GetSpacing())
    field = sitk.GetImageFromArray(bump[..., None] * AMPLITUDE * extent * (1, -1, 1), isVector=True)
    field.CopyInformation(image)
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def synthetic_patient(card: ModelCard) -> tuple[sitk.Image, sitk.Image]:
    """Image and labels of the synthetic patient of a model."""
    path = atlas_image(card)
    image, labels = sitk.ReadImage(str(path)), sitk.ReadImage(str(path.with_name("labels.nii.gz")))
    field = known_field(image)
    warped = sitk.Resample(image, image, field, sitk.sitkLinear)
    return warped, sitk.Resample(labels, image, field, sitk.sitkNearestNeighbor)


def sample_name(card: ModelCard) -> str:
    """What the synthetic patient of a model is called."""
    return _("{model} sample").format(model=card.title.split(",")[0])  # nodes of the run are named after it


def add_sample(card: ModelCard, name: str = "") -> slicer.vtkMRMLScalarVolumeNode:
    """Add the synthetic patient of a model to the scene and show it in the slice views."""
    image = synthetic_patient(card)[0]
    array = sitk.GetArrayFromImage(image)
    volume = slicer.util.addVolumeFromArray(array, ijkToRAS=ijk_to_ras(image), name=name or sample_name(card))
    volume.CreateDefaultDisplayNodes()
    logic = slicer.app.applicationLogic()
    logic.GetSelectionNode().SetActiveVolumeID(volume.GetID())
    logic.PropagateVolumeSelection()
    return volume


def mean_dice(card: ModelCard, segmentation: slicer.vtkMRMLSegmentationNode, volume) -> float:
    """Mean Dice of the structures in a segmentation of the synthetic patient against its known labels."""
    truth = sitk.GetArrayFromImage(synthetic_patient(card)[1])
    with open(Path(atlas_image(card)).with_name("labels.csv"), encoding="utf-8", newline="") as file:
        names = {int(row["value"]): row["name"] for row in csv.DictReader(file)}
    scores = []
    for value, name in names.items():
        segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume) > 0
        scores.append(2 * np.sum(found & (truth == value)) / max(np.sum(found) + np.sum(truth == value), 1))
    return float(np.mean(scores))


def register_samples(icon: Path) -> None:
    """Offer the synthetic patient of each shipped model in the module Sample Data."""
    import SampleData

    for card in shipped_models():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="CLMorph",
            sampleName=f"CLMorph{card.name.capitalize()}",
            uris=(card.folder / "card.toml").as_uri(),
            fileNames=f"{card.name}.clmorph",
            nodeNames=sample_name(card),
            loadFileTypes=SAMPLE_TYPE,
            thumbnailFileName=str(icon),
        )


class SampleReader:
    """Reads a copy of a shipped model's card, NAME.clmorph, as that model's synthetic patient.

    A reader as Slicer's scripted modules may bring one; `parent` is Slicer's side of it.
    """

    def __init__(self, parent) -> None:
        self.parent = parent

    def description(self) -> str:
        return _("CLMorph sample")

    def fileType(self) -> str:
        return SAMPLE_TYPE

    def extensions(self) -> list[str]:
        return [_("CLMorph sample") + " (*.clmorph)"]

    def load(self, properties) -> bool:
        path, shipped = Path(properties["fileName"]), {card.name: card for card in shipped_models()}
        if path.stem not in shipped:
            text = _("{file} names no model of CLMorph; there are {models}")
            message = text.format(file=path.name, models=", ".join(shipped))
            self.parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, message)
            return False
        self.parent.loadedNodes = [add_sample(shipped[path.stem], properties.get("name", "")).GetID()]
        return True
