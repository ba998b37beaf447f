"""The part of the window that takes what a person knows of the images: what is left out of them, and landmarks.

It is folded at first; its title tells what is in use, so that nothing has a say unseen.
"""

from collections.abc import Callable
from typing import Any

from .enums import Task
from .words import _

OF_TASKS = {Task.SEGMENT: ("leftOut",), Task.REGISTER: ("fixedLeftOut", "movingLeftOut")}
LANDMARKS = ("fixedLandmarks", "movingLandmarks")
# Of points: set, no longer, not to be seen in the image, gone. Moving one is of no matter to what may be started.
PLACING = ("PointPositionDefinedEvent", "PointPositionUndefinedEvent", "PointPositionMissingEvent",
           "PointRemovedEvent")  # fmt: skip
UNSEEN = "not looked at yet"
TITLE_LETTERS = 48  # the panel is as wide as the longest title makes it


class LeftOutRow:
    """The selectors of what is left out of one image: a node, and one of its segments where it has several."""

    def __init__(self, ui, name: str, parameters: Callable[[], Any]) -> None:
        self.name, self._parameters = name, parameters
        self.label, self.nodes = getattr(ui, f"{name}Label"), getattr(ui, f"{name}Selector")
        self.segments = getattr(ui, f"{name}SegmentSelector")
        self._offered: list[tuple[str, str]] = []  # (ID, name)
        self._node_id: str | None = UNSEEN
        self._showing = False
        self.segments.connect("currentIndexChanged(int)", self._on_segment)

    def forget(self) -> None:
        """The parameters that are shown next may be others."""
        self._node_id = UNSEEN

    def show(self, parameters, current: bool) -> None:
        """Show these parameters; `current`: whether the row is one of the chosen tab."""
        node = getattr(parameters, self.name)
        node_id = node.GetID() if node is not None else None
        another, self._node_id = self._node_id not in (UNSEEN, node_id), node_id
        if another and self._segment(parameters):  # a segment of the node before
            setattr(parameters, f"{self.name}Segment", "")
        self._offer(node, self._segment(parameters))
        for widget in (self.label, self.nodes):
            widget.setVisible(current)
        self.segments.setVisible(current and len(self._offered) > 2)  # all of them, and at least two

    def told(self, parameters) -> str:
        """What is left out, in a few words; empty for nothing."""
        node = getattr(parameters, self.name)
        if node is None:
            return ""
        segment = dict(self._offered).get(self._segment(parameters), "") if self._segment(parameters) else ""
        return segment or node.GetName()

    def _segment(self, parameters) -> str:
        return getattr(parameters, f"{self.name}Segment")

    def _offer(self, node, chosen: str) -> None:
        offered = [("", _("All segments"))]
        if node is not None and node.IsA("vtkMRMLSegmentationNode"):
            segmentation = node.GetSegmentation()
            offered += [(each, segmentation.GetSegment(each).GetName()) for each in segmentation.GetSegmentIDs()]
        if chosen not in dict(offered):  # it was deleted: seen, and refused
            offered.append((chosen, _("{segment} (deleted)").format(segment=chosen)))
        self._showing = True
        try:
            if offered != self._offered:
                self._offered = offered
                self.segments.clear()
                for segment_id, name in offered:
                    self.segments.addItem(name, segment_id)
            self.segments.currentIndex = [segment_id for segment_id, _name in offered].index(chosen)
        finally:
            self._showing = False

    def _on_segment(self, index: int) -> None:
        parameters = self._parameters()
        if parameters is not None and not self._showing and index >= 0:
            setattr(parameters, f"{self.name}Segment", self.segments.itemData(index))


class GuidancePanel:
    """What is left out of the images, and landmarks; `parameters` is None while the window shows none.

    changed(): is called where landmarks are placed or taken away, which can be done beside the window.
    """

    def __init__(self, ui, changed: Callable[..., None]) -> None:
        self.ui, self._changed = ui, changed
        self._followed: dict[Any, list[int]] = {}  # landmarks, and their observers
        self.parameters: Any = None
        self.rows = {
            name: LeftOutRow(ui, name, lambda: self.parameters) for names in OF_TASKS.values() for name in names
        }

    def show(self, parameters) -> None:
        """Show these parameters; None: the widgets change nothing from now on."""
        self.parameters = parameters
        self._follow([getattr(parameters, name) for name in LANDMARKS] if parameters is not None else [])
        if parameters is None:
            for row in self.rows.values():
                row.forget()
            return
        current = OF_TASKS[parameters.task]
        for name, row in self.rows.items():
            row.show(parameters, name in current)
        registers = parameters.task is Task.REGISTER
        for name in LANDMARKS:
            for ending in ("Label", "Selector"):
                getattr(self.ui, name + ending).setVisible(registers)
        left_out = [told for told in (self.rows[name].told(parameters) for name in current) if told]
        known = [_("without {names}").format(names=", ".join(left_out))] if left_out else []
        known += [_("landmarks")] if registers and parameters.fixedLandmarks is not None else []
        title = _("What you know")
        self.ui.knownSection.text = _shortened(f"{title}: {', '.join(known)}" if known else title)

    def _follow(self, chosen: list) -> None:
        """Observe these landmarks, and no others; None is none."""
        for node in [node for node in self._followed if node not in chosen]:
            for tag in self._followed.pop(node):
                node.RemoveObserver(tag)
        for node in chosen:
            if node is not None and node not in self._followed:
                self._followed[node] = [node.AddObserver(getattr(node, event), self._changed) for event in PLACING]


def _shortened(title: str) -> str:
    return title if len(title) <= TITLE_LETTERS else f"{title[: TITLE_LETTERS - 1]}…"
