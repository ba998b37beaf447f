"""The upper part of the window: what is to be done, with which model and how thoroughly, and where results go."""

import textwrap
from typing import Any

import qt
import slicer

from . import models, plan, presets, times
from .errors import NodeError
from .frames import Frames
from .options import asks_for_tissue, follows, model_card
from .parameters import (
    FOLDER,
    Alignment,
    Effort,
    FrameChoice,
    Scope,
    Task,
    Tissue,
    atlases_to_choose_from,
    effort_of,
    looks_for_brains,
    model_of,
    options_of,
    set_several_volumes,
    several_volumes,
    why_one_atlas,
)
from .picture import PictureLabel
from .results import browser_of
from .words import _

ADVANCED_ROWS = (
    "refine",
    "atlases",
    "fusion",
    "tissue",
    "sceneAtlas",
    "standardNames",
    "safeColors",
)  # of Segment alone
# A tab is as high as the higher one of the two would be, if what stands in the other one were not hidden.
SEGMENT_ROWS = ("scope", "model", "effort", "segmentTime")  # and those that depend on more
REGISTER_ROWS = ("fixedVolume", "movingVolume", "movingLabels", "registerModel", "similarity", "steps", "registerTime",
                 "registerTransform", "registerVolume", "registerSegmentation")  # fmt: skip
LINE_LETTERS = 48  # of a model's description: the panel can be as narrow as Slicer makes it at first


class ChoicesPanel:
    """The two tabs and the choices that depend on each other; `parameters` is None while the window shows none."""

    def __init__(self, ui) -> None:
        self.ui = ui
        self.parameters: Any = None
        self._folder_shown: str | None = None
        self._showing = False  # while the widgets are filled, their signals tell nothing new
        self.picture = PictureLabel(ui.modelPictureLabel)
        self._offer()
        ui.taskTabs.connect("currentChanged(int)", self._on_task)
        ui.modelSelector.connect("currentIndexChanged(int)", self._on_model)
        ui.registerModelSelector.connect("currentIndexChanged(int)", self._on_register_model)
        ui.modelFolderEdit.connect("currentPathChanged(QString)", self._on_folder)
        ui.modelFolderEdit.connect("validInputChanged(bool)", self._on_folder_emptied)
        ui.effortSelector.connect("currentIndexChanged(int)", self._on_effort)
        ui.severalSelector.connect("checkedNodesChanged()", self._on_several)

    def _offer(self) -> None:
        for card in models.shipped_models():
            self.ui.modelSelector.addItem(card.title, card.name)
        self.ui.modelSelector.addItem(_("Another, in a folder …"), FOLDER)
        self.ui.registerModelSelector.addItem(_("None: optimisation alone"), "")
        for card in models.shipped_models():
            self.ui.registerModelSelector.addItem(card.title, card.name)
        self.ui.registerModelSelector.addItem(_("The folder chosen under Segment"), FOLDER)
        named = {
            presets.FAST: _("Fast"),
            presets.BALANCED: _("Balanced"),
            presets.BEST: _("Best"),
            presets.OWN: _("As set under Advanced"),
        }
        for name, text in named.items():
            self.ui.effortSelector.addItem(text, name)

    def show(self, parameters) -> None:
        """Show these parameters; None: the widgets change nothing from now on."""
        self.parameters = parameters
        if parameters is None or self._showing:
            return
        self._showing = True
        try:
            self._show_task(parameters)
            self._show_scope(parameters)
            self._show_model(parameters)
            self._show_plan(parameters)
            self._show_atlases(parameters)
            self._show_times(parameters)
            chosen = parameters.alignment in (Alignment.TRANSFORM, Alignment.START)
            self._set_visible(chosen, "initialTransform")
        finally:
            self._showing = False

    def cost(self) -> times.Cost:
        """What decides how long the run takes that the window shows."""
        parameters = self.parameters
        if parameters.task is Task.REGISTER:
            model = model_of(parameters, parameters.registerModel)
            return times.Cost("register", model, parameters.device.value, parameters.steps, 0)
        options, card = options_of(parameters), self.card()
        tissue = card is not None and asks_for_tissue(options)
        sides = card is not None and any(plan.finds_both_sides(card, options, each) for each in self._extents())
        frames = self._frame_count() if parameters.scope is Scope.FRAMES and follows(options) else 0
        return times.Cost(
            "segment", str(options.model), options.device, options.refine, options.atlases, tissue, sides, frames
        )

    def _frame_count(self) -> int:
        """How many frames the sequence of the chosen image has; 0 where it is of none."""
        volume = self.parameters.inputVolume
        return Frames.of_volume(volume).sequence.GetNumberOfDataNodes() if browser_of(volume) is not None else 0

    def card(self) -> models.ModelCard | None:
        """The card of the model that the current tab has chosen; None for none."""
        parameters = self.parameters
        name = parameters.model if parameters.task is Task.SEGMENT else parameters.registerModel
        try:
            return model_card(parameters.modelFolder if name == FOLDER else name)
        except ValueError:
            return None

    def _extents(self) -> set[plan.Extent]:
        """The sizes of the images that are to be segmented, as far as they are known."""
        several = self.parameters.scope is Scope.SEVERAL
        volumes = several_volumes(self.parameters) if several else [self.parameters.inputVolume]
        try:
            return {plan.extent_mm(volume) for volume in volumes if volume is not None}
        except NodeError:  # told where the run is refused for it
            return set()

    def _set_visible(self, visible: bool, *rows: str) -> None:
        """Show or hide rows, each a label and a selector (or what else there is) of one name."""
        for row in rows:
            for ending in ("Label", "Selector", "Edit", "SpinBox", "CheckBox"):
                widget = getattr(self.ui, row + ending, None)
                if widget is not None:
                    widget.setVisible(visible)

    def _show_task(self, parameters) -> None:
        tasks = list(Task)
        self.ui.taskTabs.currentIndex = tasks.index(parameters.task)
        pages = (self.ui.segmentPage, self.ui.registerPage)
        for task, page in zip(tasks, pages, strict=True):  # or both tabs are as high as the higher one
            height = qt.QSizePolicy.Preferred if task is parameters.task else qt.QSizePolicy.Ignored
            page.setSizePolicy(qt.QSizePolicy.Preferred, height)
        segments = parameters.task is Task.SEGMENT
        self.ui.runButton.text = _("Segment") if segments else _("Register")
        self._set_visible(segments, *SEGMENT_ROWS, *ADVANCED_ROWS)
        self._set_visible(not segments, *REGISTER_ROWS)
        self.ui.sampleButton.setVisible(segments)
        self._set_visible(segments and parameters.useSceneAtlas, "atlasVolume", "atlasLabels")

    def _show_scope(self, parameters) -> None:
        segments, several = parameters.task is Task.SEGMENT, parameters.scope is Scope.SEVERAL
        browser = browser_of(parameters.inputVolume)
        self._set_visible(segments and not several, "inputVolume")
        self._set_visible(segments and several, "several")
        self._set_visible(segments and parameters.scope is Scope.ONE, "outputSegmentation", "outputTransform")
        self._set_visible(segments and parameters.scope is Scope.FRAMES, "frames")
        text = Scope.FRAMES.label()
        if browser is not None:
            text = _("All {count} frames of its sequence").format(count=self._frame_count())
        self.ui.scopeSelector.setItemText(list(Scope).index(Scope.FRAMES), text)
        card = self.card() if segments else None
        suits = FrameChoice.FOLLOW if card is not None and card.beats else FrameChoice.EACH
        text = _("As suits the model: {choice}").format(choice=suits.label().lower())
        self.ui.framesSelector.setItemText(list(FrameChoice).index(FrameChoice.AUTOMATIC), text)
        if several:
            self._check_several(several_volumes(parameters))

    def _check_several(self, volumes: list) -> None:
        wanted = {volume.GetID() for volume in volumes}
        shown = {node.GetID() for node in self.ui.severalSelector.checkedNodes()}
        for node_id in wanted ^ shown:
            state = qt.Qt.Checked if node_id in wanted else qt.Qt.Unchecked
            self.ui.severalSelector.setCheckState(slicer.mrmlScene.GetNodeByID(node_id), state)

    def _show_model(self, parameters) -> None:
        self._choose(self.ui.modelSelector, parameters, "model")
        self._choose(self.ui.registerModelSelector, parameters, "registerModel")
        self._set_visible(parameters.task is Task.SEGMENT and parameters.model == FOLDER, "modelFolder")
        if parameters.modelFolder != self._folder_shown:  # and not at each look: it would overwrite what is being typed
            self._folder_shown = parameters.modelFolder
            self.ui.modelFolderEdit.currentPath = parameters.modelFolder
        card = self.card()
        segments = parameters.task is Task.SEGMENT
        shown = ((self.ui.modelDescriptionLabel, segments), (self.ui.registerDescriptionLabel, not segments))
        fault = self.picture.show(card.picture if card and segments else None)
        title = card.title if card and segments and parameters.model == FOLDER else ""  # others' stand in the selector
        text = "\n".join(part for part in (title, card.description if card else "", fault) if part)
        for label, current in shown:
            label.text = _in_lines(text)
            label.setVisible(current and bool(label.text))  # the hidden tab makes the shown one no higher
        self.ui.sampleButton.setEnabled(card is not None)

    def _show_plan(self, parameters) -> None:
        card, text = self.card(), ""
        if parameters.task is Task.SEGMENT and card is not None:
            text = plan.told(card, options_of(parameters), self._extents())
        self.ui.planLabel.text = _in_lines(text)
        for label in (self.ui.planTitleLabel, self.ui.planLabel):
            label.setVisible(bool(text))
        self._set_visible(parameters.task is Task.SEGMENT and looks_for_brains(parameters), "brainExtraction")

    @staticmethod
    def _choose(selector, parameters, name: str) -> None:
        choices, chosen = [selector.itemData(index) for index in range(selector.count)], getattr(parameters, name)
        if not chosen and chosen not in choices:
            setattr(parameters, name, choices[0])
        elif chosen not in choices:  # of a scene: seen, and refused
            selector.addItem(_("{model} (not in this version)").format(model=chosen), chosen)
            choices.append(chosen)
        selector.currentIndex = choices.index(getattr(parameters, name))

    def _show_atlases(self, parameters) -> None:
        if parameters.task is not Task.SEGMENT:
            self.ui.oneAtlasLabel.setVisible(False)
            return
        reason = why_one_atlas(parameters)
        count = atlases_to_choose_from(parameters)
        if not reason:
            parameters.atlases = min(parameters.atlases, count)
            self.ui.atlasesSpinBox.maximum = count
        self.ui.atlasesSpinBox.setVisible(not reason)
        self.ui.oneAtlasLabel.text = reason
        self.ui.oneAtlasLabel.setVisible(bool(reason))
        self._set_visible(not reason and parameters.atlases > 1, "fusion")
        names = [self.ui.effortSelector.itemData(index) for index in range(self.ui.effortSelector.count)]
        self.ui.effortSelector.currentIndex = names.index(effort_of(parameters))

    def _show_times(self, parameters) -> None:
        label = self.ui.segmentTimeLabel if parameters.task is Task.SEGMENT else self.ui.registerTimeLabel
        label.text = times.told(self.cost())

    def _on_task(self, index: int) -> None:
        if self.parameters is not None and not self._showing:
            self.parameters.task = list(Task)[index]

    def _on_model(self, index: int) -> None:
        if self.parameters is None or self._showing or index < 0:
            return
        parameters = self.parameters
        effort = self.ui.effortSelector.itemData(self.ui.effortSelector.currentIndex)
        parameters.model = self.ui.modelSelector.itemData(index)
        self._apply_effort(effort)  # the new model may have more atlases, or fewer

    def _on_register_model(self, index: int) -> None:
        if self.parameters is not None and not self._showing and index >= 0:
            self.parameters.registerModel = self.ui.registerModelSelector.itemData(index)

    def _on_folder(self, path: str) -> None:
        if self.parameters is not None and not self._showing:
            self._folder_shown = path
            self.parameters.modelFolder = path

    def _on_folder_emptied(self, valid: bool) -> None:
        if not valid:  # CTK tells of this alone where the line is empty
            self._on_folder("")

    def _on_effort(self, index: int) -> None:
        if self.parameters is not None and not self._showing and index >= 0:
            self._apply_effort(self.ui.effortSelector.itemData(index))

    def _apply_effort(self, name: str) -> None:
        if name == presets.OWN:
            self.ui.advancedSection.collapsed = False
            return
        parameters = self.parameters
        numbers = presets.efforts(atlases_to_choose_from(parameters))[name]
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.effort, parameters.tissue = Effort(name), Tissue.AUTOMATIC
            parameters.refine, parameters.atlases = numbers.refine, numbers.atlases

    def _on_several(self) -> None:
        if self.parameters is not None and not self._showing:
            set_several_volumes(self.parameters, list(self.ui.severalSelector.checkedNodes()))


def _in_lines(text: str) -> str:
    """A text in lines that fit: a label that wraps by itself makes a tab as high as if it were as narrow as can be."""
    return "\n".join(textwrap.fill(line, LINE_LETTERS) for line in text.splitlines())
