"""All frames of a sequence by one run of the engine: one of them is segmented, and the others follow it.

Labels do not jump from frame to frame so, and of a heart the engine tells how much it ejects. The labels of each frame
go into a sequence that the same browser plays, as those of frames that are segmented by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import slicer
import slicer.util

from . import plan
from .errors import NodeError
from .figures import fill_series
from .frames import Frames
from .nodes import SEGMENT, Grid, all_or_nothing, fill_segmentation, show_surfaces
from .options import Options, model_card, why_not, why_not_of_several
from .output import PatientGrid
from .outputs import Undo
from .plots import add_chart
from .results import Results, link
from .sequence_file import Frame, check_one_grid, export_sequence, is_number
from .tasks import OUTPUT, read_report, segment_arguments
from .terminology import with_standard_looks
from .words import _

SERIES, FOLLOWED_LABELS = "image.seq.nrrd", "labels.nii.gz"
NOTHING = Results(**{each.name: None for each in fields(Results)})


@dataclass(frozen=True)
class Written:
    """What was given to the engine, whatever becomes of the sequence meanwhile: index values, and the grid of all."""

    values: tuple[str, ...]
    grid: Grid


@dataclass(frozen=True)
class Following:
    """The frames of a sequence, of which one is to be segmented, and the others to follow it."""

    frames: Frames
    options: Options
    written: list[Written] = field(default_factory=list)  # one, once it was written

    @property
    def node(self) -> slicer.vtkMRMLScalarVolumeNode:
        """The volume in the scene that the results belong to."""
        return self.frames.proxy

    @property
    def used(self) -> list:
        frames = self.frames
        return [frames.proxy, frames.sequence, frames.browser, *self.options.nodes]

    @property
    def may_extract(self) -> bool:
        """Whether the engine may take the brain out of a frame first. Raises ValueError for a node of no use."""
        return plan.may_extract(model_card(self.options.model), self.options, self._extent())

    def why_not(self) -> str:
        """Why it cannot be started, as a sentence for the user; empty when it can."""
        frames = self._frames()
        reason = why_not_of_several(self.options)
        reason = reason or why_not(frames[0].volume if frames else None, self.options, self.node)
        if reason:
            return reason
        try:
            check_one_grid(frames, self.node)
        except NodeError as error:
            return _("{reason}: choose “Frames › Each by itself”").format(reason=str(error))
        if plan.finds_both_sides(model_card(self.options.model), self.options, self._extent()):
            return _("Both sides of a whole head are found in one image at a time: choose “Frames › Each by itself”.")
        return ""

    def write(self, folder: Path) -> list[str]:
        """Write the nodes into `folder`; returns the engine's arguments. Raises ValueError for a node of no use."""
        frames = self._frames()
        grid = export_sequence(frames, self.node, self.frames.sequence.GetIndexUnit() or "", folder / SERIES)
        self.written[:] = [Written(tuple(frame.value for frame in frames), grid)]
        return segment_arguments(SERIES, self.options, folder, "--frames", "all")

    def load(self, folder: Path, undo: Undo) -> Results:
        """Put what the engine made into the scene. Raises nodes.NodeError where something is wrong with it."""
        written, report = self.written[0], read_report(folder)
        grid = PatientGrid(written.grid.size, written.grid.matrix)
        labels = grid.read_frames(folder / OUTPUT / FOLLOWED_LABELS, len(written.values))
        rows = _rows(report, written.values)  # or it is a report of another kind
        looks, colors = report["structures"], not self.options.safe_colors
        looks = with_standard_looks(looks, colors=colors) if self.options.standard_names else looks

        def draw(node: slicer.vtkMRMLSegmentationNode, number: int) -> None:
            fill_segmentation(node, self.node, labels[number], written.grid.matrix, looks)
            show_surfaces(node)

        with slicer.util.RenderBlocker(), all_or_nothing([]):
            segmentation = self.frames.keep_labels(written.values, draw, undo)
            table = self._table(rows, undo)
            undo.added += add_chart(table, self.frames.index_title, report["structures"])
            results = replace(NOTHING, volume=self.node, segmentation=segmentation, table=table)
            link(results, SEGMENT)
        return results

    def moved(self) -> list[str]:
        return []  # the node shows one frame after the other

    def done(self, results: Results, report: dict) -> str:
        values, series = self.written[0].values, report["series"]
        done = _("Done: labels of {count} frames, which follow that at {place}.").format(
            count=len(values), place=self._place(series["segmented"])
        )
        return " ".join((done, *map(self._told_heart, series.get("heart", ())[:1])))

    def _told_heart(self, heart: dict) -> str:
        if heart.get("ejection_fraction") is None:
            return ""
        told = _("Ejection fraction {percent:.0f} %: {edv:.1f} ml at {diastole}, {esv:.1f} ml at {systole}.")
        return told.format(
            percent=100.0 * heart["ejection_fraction"],
            edv=heart["edv_ml"],
            diastole=self._place(heart["end_diastole"]),
            esv=heart["esv_ml"],
            systole=self._place(heart["end_systole"]),
        )

    def _place(self, number: int) -> str:
        """Where the engine's frame, its number from 1, is in the sequence: "time 40 ms"."""
        sequence = self.frames.sequence
        parts = (sequence.GetIndexName(), self.written[0].values[number - 1], sequence.GetIndexUnit())
        return " ".join(part for part in parts if part)

    def _frames(self) -> list[Frame]:
        return [Frame(value, volume) for value, volume in self.frames.labelled_volumes()]

    def _extent(self) -> plan.Extent:
        return plan.extent_mm(self.frames.sequence.GetNthDataNode(0), self.node)

    def _table(self, rows: list[tuple[str | float, dict]], undo: Undo) -> slicer.vtkMRMLTableNode:
        title = _("{sequence} volumes over time").format(sequence=self.frames.sequence.GetName())
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(title))
        undo.added.append(node)
        fill_series(node, self.frames.index_title, rows)
        return node


def _rows(report: dict, values: tuple[str, ...]) -> list[tuple[str | float, dict]]:
    """What the table shows of each frame: its index value, a number where all are, and a report on it."""
    labels = [float(value) for value in values] if all(map(is_number, values)) else list(values)
    rows = []
    for frame in report["series"]["frames"]:
        volumes = frame["volumes_ml"]
        structures = [{**each, "volume_ml": volumes.get(str(each["value"]), 0.0)} for each in report["structures"]]
        similarity = {"warped": frame.get("similarity")}
        own = {"structures": structures, "similarity": similarity, "folding_fraction": frame.get("folding_fraction")}
        rows.append((labels[frame["number"] - 1], own))
    return rows
