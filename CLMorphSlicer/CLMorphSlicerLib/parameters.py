"""What the window shows, typed and kept with the scene."""

import enum
import logging
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from . import presets
from .enums import (
    Alignment,
    BrainExtraction,
    Device,
    Effort,
    FrameChoice,
    Fusion,
    Mode,
    Scope,
    Similarity,
    Task,
    Tissue,
)
from .following import Following
from .frames import Frames
from .guidance import Landmarks, LeftOut
from .options import Options, RegisterOptions, atlas_count, model_card
from .outputs import Outputs
from .results import browser_of
from .series import SequenceFrames, Volumes, work_on
from .settings import FOLDER
from .tasks import Registration, Segmentation
from .words import _

SEVERAL_ROLE = "CLMorph.several"  # of the volumes that are segmented one after the other


@parameterNodeWrapper
class CLMorphSlicerParameterNode:
    """What the window shows, kept with the scene.

    model, registerModel: a shipped model's name, or FOLDER for the one in modelFolder; registerModel may be empty, for
    none. effort: the choice of speed that was made last; it holds where `refine`, `atlases` and `tissue` fit it
    (`effort_of`). result: the transform of a run, or the table of frames that follow one: a class that both are of, for
    scenes name what is one of several classes in another way. leftOutSegment and the like: the ID of a segment of what
    is left out, empty for all of them. The volumes of Scope.SEVERAL are references of the node (`several_volumes`).
    """

    task: Task
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    scope: Scope
    frames: FrameChoice
    model: str
    modelFolder: str
    leftOut: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    leftOutSegment: str
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    outputTransform: slicer.vtkMRMLTransformNode
    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    movingVolume: slicer.vtkMRMLScalarVolumeNode
    movingLabels: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    fixedLeftOut: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    fixedLeftOutSegment: str
    movingLeftOut: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    movingLeftOutSegment: str
    fixedLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    movingLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    registerModel: str
    similarity: Similarity
    steps: Annotated[int, WithinRange(0, 200)] = 50
    registerTransform: slicer.vtkMRMLTransformNode
    registerVolume: slicer.vtkMRMLScalarVolumeNode
    registerSegmentation: slicer.vtkMRMLSegmentationNode
    device: Device
    alignment: Alignment
    initialTransform: slicer.vtkMRMLTransformNode
    effort: Effort
    refine: Annotated[int, WithinRange(0, 200)] = 0
    atlases: Annotated[int, WithinRange(0, 999)] = 0
    fusion: Fusion
    tissue: Tissue
    brainExtraction: BrainExtraction
    useSceneAtlas: bool = False
    atlasVolume: slicer.vtkMRMLScalarVolumeNode
    atlasLabels: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode | None
    standardNames: bool = False
    safeColors: bool = False
    threads: Annotated[int, WithinRange(0, 256)] = 0
    keepFiles: bool = False
    result: slicer.vtkMRMLStorableNode
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


def forget_unreadable(node: slicer.vtkMRMLScriptedModuleNode) -> None:
    """Take out values that are none here, as of a scene of another version: the wrapper would refuse them all."""
    for name in CLMorphSlicerParameterNode.allParameters:
        kind, text = CLMorphSlicerParameterNode.dataType(name), node.GetParameter(name)
        if node.HasParameter(name) and not _is_readable(kind, text):
            logging.warning("CLMorph: the scene's %s = %s is not known here, and is the default now", name, text)
            node.UnsetParameter(name)


def _is_readable(kind: Any, text: str) -> bool:
    bare, *limits = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return text in bare.__members__
    if bare not in (int, float):
        return True
    try:
        return all(limit.minimum <= bare(text) <= limit.maximum for limit in limits)
    except ValueError:
        return False


class GuiConnection:
    """Widgets that follow the parameters, and the parameters them, until `end`.

    Slicer 5.10 leaves the observer that connectGui adds when it disconnects, so that each visit to the module would
    cost more: the observer is caught on its way to the node, and removed here.
    """

    def __init__(self, parameters: CLMorphSlicerParameterNode, ui) -> None:
        self._parameters, self._observers = parameters, []
        add = parameters.AddObserver

        def add_and_note(*arguments) -> int:
            self._observers.append(add(*arguments))
            return self._observers[-1]

        parameters.AddObserver = add_and_note
        try:
            self._tag = parameters.connectGui(ui)
        finally:
            del parameters.AddObserver

    def end(self) -> None:
        self._parameters.disconnectGui(self._tag)
        for tag in self._observers:
            self._parameters.RemoveObserver(tag)


def several_volumes(parameters: CLMorphSlicerParameterNode) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The volumes that are segmented one after the other, as far as the scene still has them."""
    node = parameters.parameterNode
    numbers = range(node.GetNumberOfNodeReferences(SEVERAL_ROLE))
    found = [node.GetNthNodeReference(SEVERAL_ROLE, number) for number in numbers]
    return [volume for volume in found if volume is not None]


def set_several_volumes(parameters: CLMorphSlicerParameterNode, volumes: list) -> None:
    """Keep these volumes with the scene; tells the node's observers once."""
    with slicer.util.NodeModify(parameters.parameterNode):
        parameters.parameterNode.RemoveNodeReferenceIDs(SEVERAL_ROLE)
        for volume in volumes:
            parameters.parameterNode.AddNodeReferenceID(SEVERAL_ROLE, volume.GetID())
        parameters.parameterNode.Modified()


def options_of(parameters: CLMorphSlicerParameterNode) -> Options:
    """The options of a segmentation as the window's parameters say."""
    one, effort = parameters.scope is Scope.ONE, effort_of(parameters)
    return Options(
        model=model_of(parameters, parameters.model),
        atlas=parameters.atlasVolume if parameters.useSceneAtlas else None,
        atlas_labels=parameters.atlasLabels if parameters.useSceneAtlas else None,
        device=parameters.device.value,
        affine=_affine_of(parameters),
        initial=_initial_of(parameters),
        leave_out=left_out_of(parameters, "leftOut"),
        effort=presets.BALANCED if effort == presets.OWN else effort,
        refine=parameters.refine,
        atlases=0 if why_one_atlas(parameters) else parameters.atlases,
        fusion=parameters.fusion.value,
        tissue=parameters.tissue.value,
        brain_extraction=parameters.brainExtraction.value if looks_for_brains(parameters) else presets.AUTOMATIC,
        frames=parameters.frames.value,
        threads=parameters.threads,
        keep_files=parameters.keepFiles,
        standard_names=parameters.standardNames,
        safe_colors=parameters.safeColors,
        outputs=Outputs(parameters.outputSegmentation, parameters.outputTransform) if one else Outputs(),
    )


def register_options_of(parameters: CLMorphSlicerParameterNode) -> RegisterOptions:
    """The options of a registration as the window's parameters say."""
    return RegisterOptions(
        model=model_of(parameters, parameters.registerModel),
        labels=parameters.movingLabels,
        similarity=parameters.similarity.value,
        device=parameters.device.value,
        affine=_affine_of(parameters),
        initial=_initial_of(parameters),
        leave_out=left_out_of(parameters, "fixedLeftOut"),
        moving_leave_out=left_out_of(parameters, "movingLeftOut"),
        landmarks=_landmarks_of(parameters),
        refine=parameters.steps,
        threads=parameters.threads,
        keep_files=parameters.keepFiles,
        outputs=Outputs(parameters.registerSegmentation, parameters.registerTransform, parameters.registerVolume),
    )


def _affine_of(parameters: CLMorphSlicerParameterNode) -> str | slicer.vtkMRMLTransformNode | None:
    choices = {Alignment.NONE: "none", Alignment.TRANSFORM: parameters.initialTransform}
    return choices.get(parameters.alignment)


def _initial_of(parameters: CLMorphSlicerParameterNode) -> slicer.vtkMRMLTransformNode | None:
    return parameters.initialTransform if parameters.alignment is Alignment.START else None


def left_out_of(parameters: CLMorphSlicerParameterNode, name: str) -> LeftOut:
    """What is left out by the parameter of this name, with its segment where one is chosen."""
    node, segment = getattr(parameters, name), getattr(parameters, f"{name}Segment")
    return (node, segment) if node is not None and segment else node


def _landmarks_of(parameters: CLMorphSlicerParameterNode) -> Landmarks:
    fixed, moving = parameters.fixedLandmarks, parameters.movingLandmarks
    return (fixed, moving) if fixed is not None and moving is not None else None


def work_of(
    parameters: CLMorphSlicerParameterNode,
) -> Segmentation | Registration | Following | Volumes | SequenceFrames:
    """What is to be done as the window's parameters say: one task, or the collection of a series."""
    if parameters.task is Task.REGISTER:
        return Registration(parameters.fixedVolume, parameters.movingVolume, register_options_of(parameters))
    options = options_of(parameters)
    if parameters.scope is Scope.FRAMES:
        return work_on(Frames.of_volume(parameters.inputVolume), options)
    if parameters.scope is Scope.SEVERAL:
        return Volumes(several_volumes(parameters), options)
    return Segmentation(parameters.inputVolume, options)


def looks_for_brains(parameters: CLMorphSlicerParameterNode) -> bool:
    """Whether the model chosen for a segmentation gives a choice of brain extraction."""
    try:
        return model_card(model_of(parameters, parameters.model)).looks_for_brains
    except ValueError:
        return False


def atlases_of_model(parameters: CLMorphSlicerParameterNode) -> int:
    """How many atlases the chosen model has; 0 while none is chosen."""
    try:
        return atlas_count(Options(model=model_of(parameters, parameters.model)))
    except ValueError:
        return 0


def atlases_to_choose_from(parameters: CLMorphSlicerParameterNode) -> int:
    """How many atlases a segmentation can use: 1 where the scene's is used, or the model has no more."""
    return 1 if why_one_atlas(parameters) else atlases_of_model(parameters)


def effort_of(parameters: CLMorphSlicerParameterNode) -> str:
    """The choice of speed that the window shows: one of presets.EFFORTS, or presets.OWN."""
    count = atlases_to_choose_from(parameters)
    return presets.chosen(
        parameters.effort.value, parameters.refine, parameters.atlases, parameters.tissue.value, count
    )


def why_one_atlas(parameters: CLMorphSlicerParameterNode) -> str:
    """Why there are not several atlases to use, as a phrase; empty when there are."""
    if parameters.useSceneAtlas:
        return _("the one from the scene")
    return "" if atlases_of_model(parameters) > 1 else _("the model's only one")


def model_of(parameters: CLMorphSlicerParameterNode, name: str) -> str:
    """The name of a shipped model, or the folder of another."""
    return parameters.modelFolder if name == FOLDER else name


def what_is_missing(parameters: CLMorphSlicerParameterNode) -> str:
    """Why the run cannot be started, as a sentence; empty when it can."""
    if parameters.alignment in (Alignment.TRANSFORM, Alignment.START) and parameters.initialTransform is None:
        return _("Choose the transform of the initial alignment, under Advanced.")
    reason = _missing_folder(parameters)
    if reason:
        return reason
    if parameters.task is Task.SEGMENT:
        reason = _missing_to_segment(parameters)
        if reason:
            return reason
    elif (parameters.fixedLandmarks is None) is not (parameters.movingLandmarks is None):
        return _("Landmarks are chosen in one image: choose the same points in the other one, or None.")
    return work_of(parameters).why_not()


def _missing_folder(parameters: CLMorphSlicerParameterNode) -> str:
    segments = parameters.task is Task.SEGMENT
    if (parameters.model if segments else parameters.registerModel) != FOLDER:
        return ""
    if not parameters.modelFolder and segments:
        return _("Choose the folder of the model.")
    if not parameters.modelFolder:  # and it would be a registration without a model
        return _("Choose the folder of the model on the tab Segment, under Model › Another, in a folder …")
    if not Path(parameters.modelFolder).is_dir():
        return _("There is no folder {folder}: choose the folder of the model.").format(folder=parameters.modelFolder)
    return ""


def _missing_to_segment(parameters: CLMorphSlicerParameterNode) -> str:
    if parameters.useSceneAtlas and parameters.atlasVolume is None:
        return _("Choose the atlas image.")
    if parameters.scope is Scope.SEVERAL and not several_volumes(parameters):
        return _("Choose the images to segment.")
    if parameters.scope is Scope.FRAMES:
        if parameters.inputVolume is None:
            return _("Choose the image to segment.")
        if browser_of(parameters.inputVolume) is None:
            refused = _("“{name}” is no frame of a sequence: choose the volume that a sequence browser plays.")
            return refused.format(name=parameters.inputVolume.GetName())
    return ""
