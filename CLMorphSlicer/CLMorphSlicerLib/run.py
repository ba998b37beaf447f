"""One volume on its way through the engine: nodes become files, a child process works on them, its files become nodes.

A run watches what it depends on. When the scene is closed or one of its nodes is deleted it ends by itself; whatever
happens, its folder goes and nothing half-made is left in the scene.
"""

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import slicer
import vtk

from . import job, models, nodes
from .job import EngineCancelled, EngineError, State

FUSIONS = ("similarity", "majority", "staple")
REMOVAL_ATTEMPTS = 10  # Windows keeps the files of a process that has just ended for a moment


@dataclass(frozen=True)
class Options:
    """What a run is made of beside the volume.

    model: name of a shipped model or folder of another; atlas and atlas_labels: an atlas from the scene instead of the
    model's own; affine: None for the engine's own, "none", or a linear transform node that moves the atlas onto the
    patient; refine: at most so many steps of optimisation on this image at each resolution, 0 for none; atlases: how
    many of the model's are fused, the most similar ones, 0 for its first one alone; fusion: one of FUSIONS; threads: 0
    for as many as there are.
    """

    model: str | Path = ""
    atlas: slicer.vtkMRMLScalarVolumeNode | None = None
    atlas_labels: slicer.vtkMRMLNode | None = None
    device: str = "auto"
    affine: slicer.vtkMRMLTransformNode | str | None = None
    refine: int = 0
    atlases: int = 0
    fusion: str = "similarity"
    threads: int = 0
    keep_files: bool = False


def model_card(model: str | Path) -> models.ModelCard:
    """The card of a shipped model by its name, or of the one in a folder. Raises ValueError when there is none."""
    shipped = {card.name: card for card in models.shipped_models()}
    if str(model) in shipped:
        return shipped[str(model)]
    if model and Path(model).is_dir():
        return models.read_card(Path(model).resolve())
    raise ValueError(f"no model {str(model)!r}; there are {', '.join(shipped) or 'none'}, or give a model's folder")


def why_not(volume, options: Options) -> str:
    """Why a run cannot be started, as a sentence for the user; empty when it can."""
    if volume is None:
        return "Choose the image to segment."
    try:
        nodes.check_volume(volume)
        if not options.model:
            return "Choose a model."
        model_card(options.model)
        if options.atlas is not None:
            nodes.check_volume(options.atlas)
    except ValueError as error:
        return str(error)
    if options.atlas is None and options.atlas_labels is not None:
        return "Choose the atlas image that the labels belong to."
    if options.atlas is not None and options.atlas_labels is None:
        return "Choose the labels of the atlas: a segmentation or a labelmap."
    if options.atlas is not None and options.atlas is volume:
        return "The atlas and the image to segment are the same volume; choose two."
    if options.refine < 0:
        return f"{options.refine} refinement steps given; expected a number above zero, or 0 for no refinement."
    return _why_not_fuse(options)


def atlas_count(options: Options) -> int:
    """How many atlases a run can choose from: the scene's one, or the model's. Raises ValueError without a model."""
    return 1 if options.atlas is not None else len(models.atlas_images(model_card(options.model)))


def _why_not_fuse(options: Options) -> str:
    count = atlas_count(options)
    if count == 0:
        return f"The model {model_card(options.model).title} has no atlas; use one from the scene."
    if not 0 <= options.atlases <= count:
        return (
            f"{options.atlases} atlases given, there {'is' if count == 1 else 'are'} {count}; expected at most so "
            "many, or 0 for the first one alone."
        )
    if options.fusion not in FUSIONS:
        return f"Unknown fusion {options.fusion!r}; expected one of {', '.join(FUSIONS)}."
    return ""


@dataclass
class Inputs:
    """The files of a run and the arguments that name them."""

    folder: Path
    card: models.ModelCard
    arguments: list[str] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "output"


def write_inputs(volume, options: Options, folder: Path) -> Inputs:
    """Write the nodes as files into `folder`. Raises ValueError for a node that the engine cannot use.

    The engine runs in `folder` and is told the files by their names alone: not every reader of images on every
    platform can open a path with letters beyond ASCII, as a user's temporary folder may have.
    """
    inputs = Inputs(folder, model_card(options.model))
    nodes.export_volume(volume, folder / "image.nii")
    inputs.arguments += ["segment", "image.nii", "--model", inputs.card.folder, "-o", inputs.output.name]
    if options.atlas is not None:
        atlas, labels, names = "atlas.nii", "atlas-labels.nii.gz", "atlas-labels.csv"
        nodes.export_volume(options.atlas, folder / atlas)
        nodes.export_labels(options.atlas_labels, options.atlas, folder / labels, folder / names)
        inputs.arguments += ["--atlas", atlas, "--atlas-labels", labels, "--label-names", names]
    if isinstance(options.affine, str):
        inputs.arguments += ["--affine", options.affine]
    elif options.affine is not None:
        nodes.export_initial_transform(options.affine, folder / "initial.tfm")
        inputs.arguments += ["--affine", "initial.tfm"]
    if options.refine:
        inputs.arguments += ["--refine", str(options.refine)]
    if options.atlases:
        inputs.arguments += ["--atlases", str(options.atlases), "--fusion", options.fusion]
    inputs.arguments += ["--device", options.device, "--progress", "json"]
    inputs.arguments += ["--cancel-file", job.Job.cancel_file(folder).name]
    if options.threads:
        inputs.arguments += ["--threads", str(options.threads)]
    return inputs


def atlas_file(inputs: Inputs, report: dict) -> Path:
    """The atlas image that the engine used: the scene's, or the model's by the name that the report gives."""
    own = inputs.folder / "atlas.nii"
    if own.exists():
        return own
    named = inputs.card.folder / "atlases" / str(report.get("atlas", {}).get("name", "")) / "image.nii.gz"
    return named if named.exists() else models.atlas_image(inputs.card)


class Run:
    """A run in progress. Call `poll` now and then until `active` is false; then `results` or `error` is there.

    start(command, folder) -> process starts the engine. Raises ValueError when the input cannot be used.
    """

    def __init__(self, volume, options: Options, *, start=job.start_process) -> None:
        self.volume, self.options = volume, options
        self.results: nodes.Results | None = None
        self.error: RuntimeError | None = None
        self.warnings: list[str] = []  # of the engine, about a run that was done
        self._observers: list[int] = []
        self.folder = Path(tempfile.mkdtemp(prefix="CLMorph-", dir=slicer.app.temporaryPath))
        try:
            self._inputs = write_inputs(volume, options, self.folder)
            root = models.engine_root()
            command = job.engine_command(root, self._inputs.arguments, self.folder, options.keep_files)
            self.job = job.Job(command, self.folder, start=start)
        except BaseException:
            self._remove_folder()
            raise
        self._watch()

    @property
    def state(self) -> State:
        """State of the run: done once the results are in the scene."""
        if self.error is not None:
            return State.CANCELLED if isinstance(self.error, EngineCancelled) else State.FAILED
        if self.results is None and self.job.state is State.DONE:
            return State.RUNNING
        return self.job.state

    @property
    def active(self) -> bool:
        return self.error is None and self.results is None

    @property
    def about_to_load(self) -> bool:
        """Whether the next `poll` puts the results into the scene: known one look earlier, so that it can be told."""
        return self.active and self.job.state is State.DONE

    def poll(self) -> State:
        """Look after the engine; when it has finished, put its results into the scene."""
        if not self.active:
            return self.state
        about_to_load = self.about_to_load
        state = self.job.poll()
        if about_to_load:
            self._import()
        elif state is State.FAILED:
            self._close(EngineError(self.job.message, self.job.log_tail))
        elif state is State.CANCELLED:
            self._close(EngineCancelled("The segmentation was cancelled."))
        return self.state

    def cancel(self) -> None:
        """Ask the engine to stop; `poll` on until it has."""
        self.job.cancel()

    def abort(self, reason: str) -> None:
        """End the engine at once, because of what `reason` says."""
        if self.active:
            self.job.stop()
            self._close(EngineCancelled(reason))

    def _import(self) -> None:
        try:
            report = json.loads((self._inputs.output / "report.json").read_text("utf-8"))
            self.warnings = [str(warning) for warning in report.get("warnings", ())]
            atlas = atlas_file(self._inputs, report)
            self.results = nodes.import_results(self._inputs.output, self.volume, atlas, self.options.atlas)
        except (ValueError, LookupError, TypeError, OSError, RuntimeError) as error:
            self._close(EngineError(f"The results could not be read: {error}", self.job.log_tail))
        else:
            self._close(None)

    def _close(self, error: RuntimeError | None) -> None:
        self.error = error
        for tag in self._observers:
            slicer.mrmlScene.RemoveObserver(tag)
        self._observers.clear()
        if not self.options.keep_files:
            self._remove_folder()

    def _remove_folder(self) -> None:
        for _ in range(REMOVAL_ATTEMPTS):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)

    def _watch(self) -> None:
        used = [self.volume, self.options.atlas, self.options.atlas_labels, self.options.affine]
        ids = {node.GetID(): node.GetName() for node in used if hasattr(node, "GetID") and node.GetScene()}

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene, _event, node) -> None:
            if node.GetID() in ids:
                self.abort(f"The segmentation was stopped: {ids[node.GetID()]} was deleted.")

        def closed(_scene, _event) -> None:
            self.abort("The segmentation was stopped: the scene was closed.")

        scene = slicer.mrmlScene
        self._observers = [
            scene.AddObserver(scene.NodeAboutToBeRemovedEvent, removed),
            scene.AddObserver(scene.StartCloseEvent, closed),
        ]


def frames_of(sequence: slicer.vtkMRMLSequenceNode) -> list:
    """A volume node in the scene for each volume of a sequence, named by its index value."""
    frames = []
    for number in range(sequence.GetNumberOfDataNodes()):
        frame = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        frame.CopyContent(sequence.GetNthDataNode(number))
        frame.SetName(f"{sequence.GetName()} [{sequence.GetNthIndexValue(number)}]")
        frames.append(frame)
    return frames


def gather_segmentations(sequence: slicer.vtkMRMLSequenceNode, results: list) -> slicer.vtkMRMLSequenceNode:
    """A sequence of the segmentations of a sequence's volumes, which plays with it where a browser plays that."""
    name = slicer.mrmlScene.GenerateUniqueName(f"{sequence.GetName()} segmentation")
    gathered = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    gathered.SetIndexName(sequence.GetIndexName())
    gathered.SetIndexUnit(sequence.GetIndexUnit())
    gathered.SetIndexType(sequence.GetIndexType())
    for number, result in enumerate(results):
        gathered.SetDataNodeAtValue(result.segmentation, sequence.GetNthIndexValue(number))
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
    if browser is not None:
        browser.AddSynchronizedSequenceNode(gathered)
    return gathered
