"""What the window shows, typed and kept with the scene."""

import enum
from typing import Annotated

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .run import Options, why_not

FOLDER = "folder:"  # the choice of a model that is not shipped


class Device(enum.Enum):
    """Where the engine computes; the value is the engine's word for it."""

    AUTOMATIC = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        return {"auto": _("Automatic"), "cpu": _("Processor"), "cuda": _("NVIDIA graphics card (CUDA)"),
                "mps": _("Apple graphics processor (MPS)")}[self.value]  # fmt: skip


class Alignment(enum.Enum):
    """How the atlas is brought roughly onto the image."""

    AUTOMATIC = "automatic"
    TRANSFORM = "transform"
    NONE = "none"

    def label(self) -> str:
        return {"automatic": _("Automatic (affine registration)"), "transform": _("A linear transform of the scene"),
                "none": _("None: they lie on each other already")}[self.value]  # fmt: skip


class Mode(enum.Enum):
    """How the deformation is drawn; the value is the word of CLMorphSlicerLib.display."""

    GRID = "grid"
    GLYPH = "glyph"
    CONTOUR = "contour"

    def label(self) -> str:
        return {"grid": _("Grid"), "glyph": _("Arrows"), "contour": _("Contours")}[self.value]


@parameterNodeWrapper
class CLMorphSlicerParameterNode:
    """What the window shows, kept with the scene.

    model: a shipped model's name, or FOLDER for the one in modelFolder. result: the transform node of a run.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    model: str
    modelFolder: str
    useSceneAtlas: bool = False
    atlasVolume: slicer.vtkMRMLScalarVolumeNode
    atlasLabels: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    device: Device
    alignment: Alignment
    initialTransform: slicer.vtkMRMLLinearTransformNode
    threads: Annotated[int, WithinRange(0, 256)] = 0
    keepFiles: bool = False
    result: slicer.vtkMRMLTransformNode
    showDeformation: bool = False
    mode: Mode
    inSlices: bool = True
    in3D: bool = False
    spacing: Annotated[float, WithinRange(1, 50)] = 10.0
    scale: Annotated[float, WithinRange(0.1, 10)] = 1.0
    lineWidth: Annotated[float, WithinRange(0.5, 10)] = 1.0
    colorByDisplacement: bool = True
    showJacobian: bool = False
    jacobianOpacity: Annotated[float, WithinRange(0, 1)] = 0.5
    showAtlas: bool = False
    blend: Annotated[float, WithinRange(0, 1)] = 1.0


def options_of(parameters: CLMorphSlicerParameterNode) -> Options:
    """The options of a run as the window's parameters say."""
    affine = {
        Alignment.AUTOMATIC: None,
        Alignment.NONE: "none",
        Alignment.TRANSFORM: parameters.initialTransform,
    }[parameters.alignment]
    return Options(
        model=parameters.modelFolder if parameters.model == FOLDER else parameters.model,
        atlas=parameters.atlasVolume if parameters.useSceneAtlas else None,
        atlas_labels=parameters.atlasLabels if parameters.useSceneAtlas else None,
        device=parameters.device.value,
        affine=affine,
        threads=parameters.threads,
        keep_files=parameters.keepFiles,
    )


def what_is_missing(parameters: CLMorphSlicerParameterNode) -> str:
    """Why Segment cannot be pressed, as a sentence; empty when it can."""
    if parameters.useSceneAtlas and parameters.atlasVolume is None:
        return _("Choose the atlas image.")
    if parameters.alignment is Alignment.TRANSFORM and parameters.initialTransform is None:
        return _("Choose the transform of the initial alignment, under Advanced.")
    return why_not(parameters.inputVolume, options_of(parameters))
