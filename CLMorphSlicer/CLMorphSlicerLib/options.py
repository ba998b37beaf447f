"""What a run is made of beside its volumes, and why it cannot be started."""

from dataclasses import dataclass, field
from pathlib import Path

import slicer

from . import exporting, guidance, models, presets
from .errors import NodeError
from .outputs import Outputs
from .words import _

FUSIONS = ("similarity", "majority", "staple")
SIMILARITIES = ("lncc", "mind")


@dataclass(frozen=True)
class Options:
    """How a volume is segmented.

    model: name of a shipped model or folder of another; atlas and atlas_labels: an atlas from the scene instead of the
    model's own; affine: None for the engine's own, "none", or a linear transform node that moves the atlas onto the
    patient, which is taken as it is; initial: one with which the engine's own alignment begins; leave_out: a
    segmentation or labelmap of what must not count, as a lesion, or (segmentation, name of a segment); effort: one of
    presets.EFFORTS, which decides what the next three leave open; refine: at most so many steps of refinement on this
    image at each resolution, 0 as the effort says; atlases: how many of the model's are fused, the most similar ones, 0
    as the effort says; tissue: one of presets.TISSUE, whether labels follow the image's own tissue; brain_extraction:
    one of presets.EXTRACTION, whether the brain is taken out of a head first, by itself where the model needs that and
    the image is not stripped; frames: one of presets.FRAMES, whether the frames of a sequence follow one of them, by
    themselves where the model knows a beating heart; fusion: one of FUSIONS; threads: 0 for as many as there are;
    standard_names: Slicer's names and colours of anatomy in place of the model's; safe_colors: colours that people with
    any colour vision tell apart; outputs: existing nodes to write into.
    """

    model: str | Path = ""
    atlas: slicer.vtkMRMLScalarVolumeNode | None = None
    atlas_labels: slicer.vtkMRMLNode | None = None
    device: str = "auto"
    affine: slicer.vtkMRMLTransformNode | str | None = None
    initial: slicer.vtkMRMLTransformNode | None = None
    leave_out: guidance.LeftOut = None
    effort: str = presets.BALANCED
    refine: int = 0
    atlases: int = 0
    tissue: str = presets.AUTOMATIC
    brain_extraction: str = presets.AUTOMATIC
    frames: str = presets.AUTOMATIC
    fusion: str = "similarity"
    threads: int = 0
    keep_files: bool = False
    standard_names: bool = False
    safe_colors: bool = False
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def nodes(self) -> list:
        """The nodes, beside the volume, that a run depends on."""
        return [self.atlas, self.atlas_labels, self.affine, self.initial, *guidance.nodes_of(self.leave_out)]


@dataclass(frozen=True)
class RegisterOptions:
    """How a moving volume is laid onto a fixed one.

    model: as in Options, or empty for optimisation alone, which then needs `refine` above 0; labels: segmentation or
    labelmap of the moving volume to carry along; similarity: one of SIMILARITIES; initial: a transform node of any kind
    that moves the moving volume about onto the fixed one; leave_out: of the fixed volume, and moving_leave_out of the
    moving one, as in Options; landmarks: two nodes of the same points, in the fixed and in the moving volume, paired by
    label where each has one of its own, or by order; affine, refine, device, threads, outputs: as in Options.
    """

    model: str | Path = ""
    labels: slicer.vtkMRMLNode | None = None
    similarity: str = "lncc"
    device: str = "auto"
    affine: slicer.vtkMRMLTransformNode | str | None = None
    initial: slicer.vtkMRMLTransformNode | None = None
    leave_out: guidance.LeftOut = None
    moving_leave_out: guidance.LeftOut = None
    landmarks: guidance.Landmarks = None
    refine: int = 50
    threads: int = 0
    keep_files: bool = False
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def nodes(self) -> list:
        """The nodes, beside the volumes, that a run depends on."""
        known = guidance.nodes_of(self.leave_out, self.moving_leave_out, self.landmarks)
        return [self.labels, self.affine, self.initial, *known]


def model_card(model: str | Path) -> models.ModelCard:
    """The card of a shipped model by its name, or of the one in a folder. Raises ValueError when there is none."""
    shipped = {card.name: card for card in models.shipped_models()}
    if str(model) in shipped:
        return shipped[str(model)]
    if model and Path(model).is_dir():
        return models.read_card(Path(model).resolve())
    refused = _("no model {model}; there are {names}, or give a model's folder")
    raise ValueError(refused.format(model=repr(str(model)), names=", ".join(shipped) or _("none")))


def why_not(volume, options: Options, proxy=None) -> str:
    """Why a segmentation cannot be started, as a sentence for the user; empty when it can.

    `proxy` is the volume node of the scene where `volume` is a frame inside a sequence.
    """
    if volume is None:
        return _("Choose the image to segment.")
    try:
        exporting.check_image(volume, proxy)
        if not options.model:
            return _("Choose a model.")
        model_card(options.model)
        if options.atlas is not None:
            exporting.check_image(options.atlas)
        exporting.check_labels(options.atlas_labels)
        _check_starts(options, options.atlas, linear=True)
        guidance.check_left_out(options.leave_out)
    except ValueError as error:
        return str(error)
    if options.atlas is None and options.atlas_labels is not None:
        return _("Choose the atlas image that the labels belong to.")
    if options.atlas is not None and options.atlas_labels is None:
        return _("Choose the labels of the atlas: a segmentation or a labelmap.")
    if options.atlas is not None and options.atlas is volume:
        return _("The atlas and the image to segment are the same volume; choose two.")
    used = (proxy or volume, *options.nodes)
    return (
        _why_unknown(_("effort"), options.effort, presets.EFFORTS)
        or _why_unknown(_("tissue"), options.tissue, presets.TISSUE)
        or _why_unknown(_("brain extraction"), options.brain_extraction, presets.EXTRACTION)
        or _why_unknown(_("frames"), options.frames, presets.FRAMES)
        or _why_not_refine(options.refine)
        or _why_not_fuse(options)
        or options.outputs.why_not(used)
    )


def why_not_register(fixed, moving, options: RegisterOptions) -> str:
    """Why a registration cannot be started, as a sentence for the user; empty when it can."""
    if fixed is None:
        return _("Choose the fixed image.")
    if moving is None:
        return _("Choose the moving image.")
    if fixed is moving:
        return _("The fixed and the moving image are the same volume; choose two.")
    try:
        exporting.check_image(fixed)
        exporting.check_image(moving)
        exporting.check_labels(options.labels)
        _check_starts(options, moving, linear=False)
        guidance.check_left_out(options.leave_out)
        guidance.check_left_out(options.moving_leave_out)
        guidance.check_landmarks(options.landmarks)
        if options.model:
            model_card(options.model)
    except ValueError as error:
        return str(error)
    if not options.model and options.refine == 0:
        return _("Without a model, the optimisation is all there is: set “Refinement steps” above 0.")
    used = (fixed, moving, *options.nodes)
    return (
        _why_unknown(_("similarity"), options.similarity, SIMILARITIES)
        or _why_not_refine(options.refine)
        or options.outputs.why_not(used)
    )


def _check_starts(options: Options | RegisterOptions, moved, *, linear: bool) -> None:
    """Raise NodeError where the transform that is to be taken, or begun with, does not do; `moved` is what it moves."""
    if options.affine is not None and options.initial is not None:
        raise NodeError(_("affine is taken as it is, initial begins the alignment: give one of them"))
    if not isinstance(options.affine, str):
        exporting.check_start(options.affine, moved, linear=True)
    exporting.check_start(options.initial, moved, linear=linear)


def why_not_of_several(options: Options) -> str:
    """Why several images cannot be segmented with these options, as a sentence; empty when they can."""
    if options.leave_out is not None:
        return _("What is left out was painted on one image: choose “Apply to › This image”, or nothing to leave out.")
    if options.initial is not None:
        return _("A transform begins the alignment of one image: choose “Apply to › This image”, or another alignment.")
    return ""


def atlas_count(options: Options) -> int:
    """How many atlases a run can choose from: the scene's one, or the model's. Raises ValueError without a model."""
    return 1 if options.atlas is not None else len(models.atlas_images(model_card(options.model)))


def asks_for_tissue(options: Options) -> bool:
    """Whether the labels of a run are to follow the image's tissue, as the engine will decide it.

    Those that STAPLE fuses never do. Raises ValueError without a model.
    """
    if options.atlases and options.fusion == "staple":
        return False
    if options.tissue != presets.AUTOMATIC:
        return options.tissue == presets.ON
    return options.effort != presets.FAST and model_card(options.model).follows_tissue


def follows(options: Options) -> bool:
    """Whether one frame of a sequence is segmented and the others follow it: as said, or as suits the model."""
    if options.frames != presets.AUTOMATIC:
        return options.frames == presets.FOLLOW
    try:
        return model_card(options.model).beats
    except ValueError:  # told where the run is refused for it
        return False


def _why_not_refine(steps: int) -> str:
    if steps >= 0:
        return ""
    refused = _("{steps} refinement steps given; expected a number above zero, or 0 for no refinement.")
    return refused.format(steps=steps)


def _why_not_fuse(options: Options) -> str:
    count = atlas_count(options)
    if count == 0:
        refused = _("The model {title} has no atlas; use one from the scene.")
        return refused.format(title=model_card(options.model).title)
    if not 0 <= options.atlases <= count:
        there = _("there is 1") if count == 1 else _("there are {count}").format(count=count)
        refused = _("{given} atlases given, {there}; expected at most so many, or 0 for the first one alone.")
        return refused.format(given=options.atlases, there=there)
    return _why_unknown(_("fusion"), options.fusion, FUSIONS)


def _why_unknown(what: str, given: str, known: tuple[str, ...]) -> str:
    if given in known:
        return ""
    refused = _("Unknown {what} {given}; expected one of {known}.")
    return refused.format(what=what, given=repr(given), known=", ".join(known))
