"""What the window shows, typed and kept with the scene."""

import enum
from typing import Annotated

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .run import Options, atlas_count, why_not

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


class Fusion(enum.Enum):
    """How several atlases vote; the value is the engine's word for it."""

    SIMILARITY = "similarity"
    MAJORITY = "majority"
    STAPLE = "staple"

    def label(self) -> str:
        return {"similarity": _("By local similarity"), "majority": _("Majority"), "staple": _("STAPLE")}[self.value]


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
    refine: Annotated[int, WithinRange(0, 200)] = 0
    atlases: Annotated[int, WithinRange(0, 999)] = 0
    fusion: Fusion
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
    affine = {Alignment.AUTOMATIC: None, Alignment.NONE: "none", Alignment.TRANSFORM: parameters.initialTransform}[
        parameters.alignment
    ]
    return Options(
        model=_model_of(parameters),
        atlas=parameters.atlasVolume if parameters.useSceneAtlas else None,
        atlas_labels=parameters.atlasLabels if parameters.useSceneAtlas else None,
        device=parameters.device.value,
        affine=affine,
        refine=parameters.refine,
        atlases=0 if why_one_atlas(parameters) else parameters.atlases,
        fusion=parameters.fusion.value,
        threads=parameters.threads,
        keep_files=parameters.keepFiles,
    )


def atlases_of_model(parameters: CLMorphSlicerParameterNode) -> int:
    """How many atlases the chosen model has; 0 while none is chosen."""
    try:
        return atlas_count(Options(model=_model_of(parameters)))
    except ValueError:
        return 0


def why_one_atlas(parameters: CLMorphSlicerParameterNode) -> str:
    """Why there are not several atlases to use, as a phrase; empty when there are."""
    if parameters.useSceneAtlas:
        return _("the one from the scene")
    return "" if atlases_of_model(parameters) > 1 else _("the model's only one")


def _model_of(parameters: CLMorphSlicerParameterNode) -> str:
    return parameters.modelFolder if parameters.model == FOLDER else parameters.model


def what_is_missing(parameters: CLMorphSlicerParameterNode) -> str:
    """Why Segment cannot be pressed, as a sentence; empty when it can."""
    if parameters.useSceneAtlas and parameters.atlasVolume is None:
        return _("Choose the atlas image.")
    if parameters.alignment is Alignment.TRANSFORM and parameters.initialTransform is None:
        return _("Choose the transform of the initial alignment, under Advanced.")
    return why_not(parameters.inputVolume, options_of(parameters))
