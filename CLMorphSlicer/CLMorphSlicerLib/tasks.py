"""What the engine is asked for: a volume to be segmented, or two to be registered. Nodes become files and come back.

A task knows the nodes that it depends on (`used`), writes them (`write`), and loads what the engine made (`load`).

The engine runs in the folder of the run and is told the files by their names alone: not every reader of images on
every platform can open a path with letters beyond ASCII, as a user's temporary folder may have.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import slicer

from . import exporting, guidance, job, models, nodes, plan, presets
from .errors import NodeError
from .options import Options, RegisterOptions, model_card, why_not, why_not_register
from .output import on_one_grid
from .outputs import Undo
from .results import Results
from .words import _

IMAGE, MOVING, ATLAS = "image.nii", "moving.nii", "atlas.nii"
LABELS, LABEL_NAMES = "labels.nii.gz", "labels.csv"
INITIAL, OUTPUT = "initial.tfm", "output"
START = "start"  # without its ending, which goes by the kind of transform
MASK, MOVING_MASK = "mask.nii.gz", "moving_mask.nii.gz"
LANDMARKS, MOVING_LANDMARKS = "fixed.mrk.json", "moving.mrk.json"


def read_report(folder: Path) -> dict:
    """What the engine reports of a run in `folder`; empty where it reports nothing."""
    path = folder / OUTPUT / "report.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def follows_tissue(report: dict) -> bool:
    """Whether the labels that the engine reports of follow the image's tissue; older engines tell nothing of it."""
    return bool((report.get("tissue") or {}).get("used"))


def extracted(report: dict) -> bool:
    """Whether the engine has taken the brain out of the image first."""
    return (report.get("brain") or {}).get("method") == "extracted"


def both_sides(report: dict) -> bool:
    """Whether the engine has found the model's organ on both sides of a whole."""
    return bool(report.get("locator"))


def verdict(report: dict) -> str:
    """pass, review or reject, as the engine judges its labels; empty where it does not."""
    return str((report.get("quality") or {}).get("verdict") or "")


def told_verdict(report: dict) -> str:
    """The verdict in a sentence; empty where there is none."""
    sentences = {
        "pass": _("Verdict: pass."),
        "review": _("Verdict: review the labels before use."),
        "reject": _("Verdict: reject, do not use the labels."),
    }
    return sentences.get(verdict(report), "")


@dataclass(frozen=True)
class Segmentation:
    """A volume that is to be segmented.

    `proxy` is its node in the scene where it is a frame inside a sequence; `depends_on`: what else has to stay.
    """

    volume: slicer.vtkMRMLScalarVolumeNode
    options: Options
    proxy: slicer.vtkMRMLScalarVolumeNode | None = None
    depends_on: tuple[slicer.vtkMRMLNode, ...] = ()
    grid: list[nodes.Grid] = field(default_factory=list)  # of the volume when it was written

    @property
    def node(self) -> slicer.vtkMRMLScalarVolumeNode:
        """The volume in the scene that the results belong to."""
        return self.proxy or self.volume

    @property
    def used(self) -> list:
        return [self.node, *self.options.nodes, *self.depends_on]

    @property
    def may_extract(self) -> bool:
        """Whether the engine may take the brain out of the volume first. Raises ValueError for a node of no use."""
        extent = plan.extent_mm(self.volume, self.proxy)
        return plan.may_extract(model_card(self.options.model), self.options, extent)

    def why_not(self) -> str:
        return why_not(self.volume, self.options, self.proxy)

    def write(self, folder: Path) -> list[str]:
        """Write the nodes into `folder`; returns the engine's arguments. Raises ValueError for a node of no use."""
        exporting.export_volume(self.volume, folder / IMAGE, self.proxy)
        self.grid[:] = [nodes.Grid.of(self.volume, self.proxy)]
        return segment_arguments(IMAGE, self.options, folder) + _known(self.options, self.volume, folder)

    def load(self, folder: Path, undo: Undo) -> Results:
        """Put what the engine made into the scene. Raises nodes.NodeError where something is wrong with it."""
        # of a frame the node may show another one by now, and a volume may have been moved
        options = self.options
        loading = nodes.Loading(
            options.outputs,
            standard_names=options.standard_names,
            safe_colors=options.safe_colors,
            grid=self.grid[0],
            in_folder=self.proxy is None,
            undo=undo,
        )
        atlas = atlas_file(folder, model_card(self.options.model), read_report(folder))
        return nodes.import_results(folder / OUTPUT, self.node, atlas, self.options.atlas, loading=loading)

    def moved(self) -> list[str]:
        """What is to be told where the volume no longer lies where it was written."""
        return told_moved(self.grid[0], self.volume) if self.proxy is None else []

    def done(self, results: Results, _report: dict) -> str:
        node = results.segmentation
        count = node.GetSegmentation().GetNumberOfSegments() if node is not None else 0
        done = _("Done: {count} structures in {name}.").format(count=count, name=self.node.GetName())
        given = self.options.outputs.transform
        if results.transform is not None or given is None or given is results.left:
            return done
        stays = _("Each side has a transform of its own; “{name}” stays as it was.")
        return f"{done} {stays.format(name=given.GetName())}"


@dataclass(frozen=True)
class Registration:
    """A moving volume that is to be laid onto a fixed one."""

    fixed: slicer.vtkMRMLScalarVolumeNode
    moving: slicer.vtkMRMLScalarVolumeNode
    options: RegisterOptions
    grid: list[nodes.Grid] = field(default_factory=list)  # of the fixed and the moving volume when they were written

    @property
    def node(self) -> slicer.vtkMRMLScalarVolumeNode:
        return self.fixed

    @property
    def may_extract(self) -> bool:
        return False

    @property
    def used(self) -> list:
        return [self.fixed, self.moving, *self.options.nodes]

    def why_not(self) -> str:
        return why_not_register(self.fixed, self.moving, self.options)

    def write(self, folder: Path) -> list[str]:
        """Write the nodes into `folder`; returns the engine's arguments. Raises ValueError for a node of no use."""
        options = self.options
        exporting.export_volume(self.fixed, folder / IMAGE)
        exporting.export_volume(self.moving, folder / MOVING)
        self.grid[:] = [nodes.Grid.of(self.fixed), nodes.Grid.of(self.moving)]
        arguments = ["register", IMAGE, MOVING, "-o", OUTPUT]
        if options.model:
            arguments += ["--model", str(model_card(options.model).folder)]
        if options.refine:
            arguments += ["--similarity", options.similarity, *presets.refinement(options.refine)]
        if options.labels is not None:
            exporting.export_labels(options.labels, self.moving, folder / LABELS, folder / LABEL_NAMES)
            arguments += ["--moving-labels", LABELS]
        if options.moving_leave_out is not None:
            guidance.export_counted(options.moving_leave_out, self.moving, folder / MOVING_MASK)
            arguments += ["--moving-mask", MOVING_MASK]
        if options.landmarks is not None:
            for node, name in zip(options.landmarks, (LANDMARKS, MOVING_LANDMARKS), strict=True):
                guidance.export_points(node, folder / name)
            arguments += ["--landmarks", LANDMARKS, MOVING_LANDMARKS]
        return arguments + _known(options, self.fixed, folder) + _common(options, folder)

    def load(self, folder: Path, undo: Undo) -> Results:
        """Put what the engine made into the scene. Raises nodes.NodeError where something is wrong with it."""
        names = folder / LABEL_NAMES if self.options.labels is not None else None
        loading = nodes.Loading(self.options.outputs, grid=self.grid[0], undo=undo)
        return nodes.import_registration(
            folder / OUTPUT, self.fixed, self.moving, folder / MOVING, names, loading=loading
        )

    def moved(self) -> list[str]:
        """What is to be told where a volume no longer lies where it was written."""
        return told_moved(self.grid[0], self.fixed) + told_moved(self.grid[1], self.moving)

    def done(self, results: Results, report: dict) -> str:
        done = _("Done: {moving} lies on {fixed}.").format(moving=self.moving.GetName(), fixed=self.fixed.GetName())
        done = " ".join((done, *told_landmarks(report)))
        carried = results.segmentation.GetSegmentation().GetNumberOfSegments() if results.segmentation else 0
        if self.options.labels is None or carried:
            return done
        lost = _("None of the labels of {labels} lies inside it.")
        return f"{done} {lost.format(labels=self.options.labels.GetName())}"


def told_moved(before: nodes.Grid, volume: slicer.vtkMRMLVolumeNode) -> list[str]:
    """A sentence if a volume no longer lies where it was written: results belong to that place."""
    try:
        if volume.GetImageData() is not None and on_one_grid(before, nodes.Grid.of(volume)):
            return []
    except NodeError:  # it is under a transform that bends by now
        pass
    told = _("“{name}” was moved or changed during the run: the results belong to where it was.")
    return [told.format(name=volume.GetName())]


def segment_arguments(image: str, options: Options, folder: Path, *more: str) -> list[str]:
    """What the engine is told to segment a file in `folder`, where the atlas of the scene is written too, if any.

    Raises ValueError for a node of no use.
    """
    arguments = ["segment", image, "--model", str(model_card(options.model).folder), "-o", OUTPUT, *more]
    if options.atlas is not None:
        exporting.export_volume(options.atlas, folder / ATLAS)
        exporting.export_labels(options.atlas_labels, options.atlas, folder / LABELS, folder / LABEL_NAMES)
        arguments += ["--atlas", ATLAS, "--atlas-labels", LABELS, "--label-names", LABEL_NAMES]
    arguments += presets.arguments(options.effort, options.tissue, options.refine, options.atlases, options.fusion)
    arguments += [*presets.extraction(options.brain_extraction), *presets.colors(options.safe_colors)]
    return arguments + _common(options, folder)


def _known(options: Options | RegisterOptions, volume: slicer.vtkMRMLVolumeNode, folder: Path) -> list[str]:
    """The arguments of what is known of the image that stays in its place: written beside it."""
    arguments = []
    if options.leave_out is not None:
        guidance.export_counted(options.leave_out, volume, folder / MASK)
        arguments += ["--mask", MASK]
    if options.initial is not None:
        arguments += ["--initial", exporting.export_start(options.initial, volume, folder, START)]
    return arguments


def told_landmarks(report: dict) -> list[str]:
    """How far apart the landmarks of a registration lie, in sentences; none where there were no landmarks."""
    landmarks = report.get("landmarks")
    if not landmarks:
        return []
    told = (
        _("{count} landmarks by label: {before:.1f} mm apart before, {affine:.1f} mm aligned, {warped:.1f} mm warped.")
        if landmarks["matched_by"] == "name"
        else _("{count} landmarks in order: {before:.1f} mm apart before, {affine:.1f} mm aligned, "
               "{warped:.1f} mm warped.")
    )  # fmt: skip
    sentences = [told.format(count=len(landmarks["names"]), **landmarks["mean_mm"])]
    if landmarks["alone"]:
        alone = _("Without a partner, and not used: {names}.")
        sentences.append(alone.format(names=", ".join(landmarks["alone"])))
    return sentences


def _common(options: Options | RegisterOptions, folder: Path) -> list[str]:
    """The arguments that both tasks have."""
    arguments = []
    if isinstance(options.affine, str):
        arguments += ["--affine", options.affine]
    elif options.affine is not None:
        exporting.export_initial_transform(options.affine, folder / INITIAL)
        arguments += ["--affine", INITIAL]
    arguments += ["--device", options.device, "--progress", "json"]
    arguments += ["--cancel-file", job.Job.cancel_file(folder).name]
    if options.threads:
        arguments += ["--threads", str(options.threads)]
    return arguments


def atlas_file(folder: Path, card: models.ModelCard, report: dict) -> Path:
    """The atlas image that the engine used: the scene's, or the model's by the name that the report gives."""
    own = folder / ATLAS
    if own.exists():
        return own
    named = card.folder / "atlases" / str(report.get("atlas", {}).get("name", "")) / "image.nii.gz"
    return named if named.exists() else models.atlas_image(card)
