"""CLMorph in 3D Slicer: choose a scan, press Segment, see the structures and the deformation behind them.

The computing is done by the engine CLMorphCore in a process of its own (CLMorphSlicerLib/job.py); this file is the
window, and the way to do the same from Python:

    from CLMorphSlicer import CLMorphSlicerLogic
    results = CLMorphSlicerLogic().segment(volumeNode, model="hippocampus")
    results = CLMorphSlicerLogic().register(fixedNode, movingNode)
"""

import logging
import sys
import time
import unittest
from contextlib import contextmanager
from pathlib import Path

import ctk
import slicer
import vtk
from CLMorphSlicerLib import dependencies, models, sample, settings, times
from CLMorphSlicerLib.choices import ChoicesPanel
from CLMorphSlicerLib.deformation import DeformationPanel
from CLMorphSlicerLib.exporting import likely_input
from CLMorphSlicerLib.frames import Frames
from CLMorphSlicerLib.guidance_panel import GuidancePanel
from CLMorphSlicerLib.job import State, start_process
from CLMorphSlicerLib.options import Options, RegisterOptions
from CLMorphSlicerLib.panel import ProgressPanel, wait_cursor
from CLMorphSlicerLib.parameters import (
    CLMorphSlicerParameterNode,
    GuiConnection,
    Scope,
    forget_unreadable,
    what_is_missing,
    work_of,
)
from CLMorphSlicerLib.results import RESULT_ATTRIBUTE, Results, watch_scene_loading
from CLMorphSlicerLib.run import Run
from CLMorphSlicerLib.runner import Runner, Work, may_extract
from CLMorphSlicerLib.series import Series, Volumes, work_on
from CLMorphSlicerLib.tasks import Registration, Segmentation
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

TUTORIAL = "https://github.com/CLMorph/CLMorph/blob/main/docs/slicer.md#tutorial"


class CLMorphSlicer(ScriptedLoadableModule):
    """What Slicer's list of modules shows."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CLMorphSlicer")
        self.parent.categories = [
            translate("qSlicerAbstractCoreModule", "Segmentation"),
            translate("qSlicerAbstractCoreModule", "Registration"),
        ]
        self.parent.dependencies = ["Colors", "Markups", "Segmentations", "Sequences", "Terminologies"]
        self.parent.contributors = ["CLMorph developers"]
        self.parent.helpText = _(
            "Finds anatomical structures by warping a labelled atlas onto the image, or lays one image onto another, "
            "and shows how it was warped. <a href='{tutorial}'>Tutorial</a>. The code is under Apache-2.0; each model "
            "has the licence of the data that it was trained on, shown where it is chosen: {licences}."
        ).format(
            tutorial=TUTORIAL, licences=", ".join(f"{card.name} {card.licence}" for card in models.shipped_models())
        )
        self.parent.acknowledgementText = _("For research. Not a medical device.")
        slicer.app.connect("startupCompleted()", onStartupCompleted)
        window = slicer.util.mainWindow()
        if window is not None and window.visible:  # added to a Slicer that has started long ago
            onStartupCompleted()


def onStartupCompleted() -> None:
    """What needs the whole application, once: the sample data, and results that were saved in scenes."""
    if onStartupCompleted.done is slicer.mrmlScene:
        return
    onStartupCompleted.done = slicer.mrmlScene
    sample.register_samples(Path(__file__).parent / "Resources" / "Icons" / "CLMorphSlicer.png")
    watch_scene_loading()


onStartupCompleted.done = None  # the scene for which it was done


class CLMorphSlicerFileReader(sample.SampleReader):
    """Slicer finds the reader by this name."""


class CLMorphSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The window: it shows the parameters and the run, and leaves the work to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._gui = None
        self._installs = False  # while packages are installed
        self._began = (None, 0.0)  # what the run's time goes by, and when it was started

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        window = slicer.util.loadUI(self.resourcePath("UI/CLMorphSlicer.ui"))
        self.layout.addWidget(window)
        self.ui = slicer.util.childWidgetVariables(window)
        window.setMRMLScene(slicer.mrmlScene)
        self.logic = CLMorphSlicerLogic()
        self.progress, self.deformation = ProgressPanel(self.ui), DeformationPanel(self.ui)
        self.choices, self.guidance = ChoicesPanel(self.ui), GuidancePanel(self.ui, self._refresh)
        self.ui.modelFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.resultSelector.addAttribute("vtkMRMLStorableNode", RESULT_ATTRIBUTE)
        self.ui.segmentsTable.jumpToSelectedSegmentEnabled = True
        for button, slot in ((self.ui.runButton, self.onRun), (self.ui.cancelButton, self.onCancel),
                             (self.ui.undoButton, self.onUndo), (self.ui.sampleButton, self.onSample),
                             (self.ui.reinstallButton, self.onReinstall)):  # fmt: skip
            button.connect("clicked(bool)", slot)
        scene = slicer.mrmlScene
        for event in (scene.StartCloseEvent, scene.StartImportEvent):
            self.addObserver(scene, event, self._onSceneStartsToChange)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self._onSceneRenewed)
        slicer.app.connect("aboutToQuit()", self.cleanup)
        self._showVersions()
        self.initializeParameterNode()
        if getattr(self.parent, "isEntered", False):  # Reload: Slicer does not enter the module again
            self.enter()

    def cleanup(self) -> None:
        """The window goes, is reloaded, or Slicer quits: nothing may stay running or listening."""
        if self.logic is None:
            return
        slicer.app.disconnect("aboutToQuit()", self.cleanup)
        self.deformation.follow_crosshair(False)
        self.deformation.forget()
        self.logic.stop()
        self.setParameterNode(None)
        self.logic.forgetParameters()
        self.removeObservers()
        self.logic = None

    def onReload(self) -> None:
        """Slicer's Reload renews this file alone; the library is renewed with it."""
        for name in [name for name in sys.modules if name.split(".")[0] == "CLMorphSlicerLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self) -> None:
        self.initializeParameterNode()
        self.deformation.follow_crosshair(True)

    def exit(self) -> None:
        self.deformation.follow_crosshair(False)
        self.setParameterNode(None)

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            self._parameterNode.inputVolume = likely_input()

    def setParameterNode(self, parameterNode) -> None:
        """Show and observe these parameters; None shows none."""
        if self._parameterNode is not None:
            self._gui.end()
            self.removeObserver(self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._refresh)
        self._parameterNode, self._gui = parameterNode, None
        self.choices.show(None)
        self.guidance.show(None)
        self.deformation.show(None)
        if parameterNode is not None:
            self._gui = GuiConnection(parameterNode, self.ui)
            self.addObserver(parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._refresh)
            self._refresh()

    def onRun(self, _checked: bool = False) -> None:
        """Start a run with what the window shows."""
        parameters = self._parameterNode
        with self._telling():
            work = work_of(parameters)
            if dependencies.ensure(self._installing, heads=may_extract(work)):
                self.progress.start(parameters.keepFiles)
                settings.remember(parameters)
                self._began = (self.choices.cost(), time.monotonic())
                self.logic.start(work, self._onRunChanged)

    def onSample(self, _checked: bool = False) -> None:
        """Load the synthetic patient of the chosen model, and choose it."""
        with self._telling(), wait_cursor():
            volume = sample.add_sample(self.choices.card())
            if self._parameterNode.task.value == "segment":
                self._parameterNode.inputVolume, self._parameterNode.scope = volume, Scope.ONE

    def onReinstall(self, _checked: bool = False) -> None:
        with self._telling():
            if dependencies.reinstall(self._installing):
                self.progress.tell(_("The packages were installed anew."))

    def onUndo(self, _checked: bool = False) -> None:
        """Take the last run back; what was drawn by hand since is not lost without a question."""
        undo = self.logic.runner.undo
        question = _("{names} was changed since the run. Take the run back, and these changes with it?")
        changed = ", ".join(f"“{name}”" for name in undo.would_lose)
        if changed and not slicer.util.confirmOkCancelDisplay(question.format(names=changed), "CLMorph"):
            return
        with self._telling(), slicer.util.RenderBlocker():
            self.deformation.forget()
            undo()
            self.progress.tell(_("The last run was taken back."))

    def onCancel(self, _checked: bool = False) -> None:
        if self.logic.running:
            self.logic.run.cancel()
            self._onRunChanged(self.logic.run)

    @contextmanager
    def _telling(self):
        """Whatever goes wrong is told below the button, and the window shows how things stand."""
        try:
            yield
        except Exception as error:
            logging.debug("CLMorph: %s", error, exc_info=True)
            self.progress.fail(error)
        finally:
            self._refresh()

    @contextmanager
    def _installing(self):
        """Segment cannot be pressed a second time, though Slicer lets its window live meanwhile."""
        self._installs = True
        self._refresh()
        try:
            with wait_cursor():
                yield
        finally:
            self._installs = False
            self._showVersions()
            self._refresh()

    def _showVersions(self) -> None:
        self.ui.versionsLabel.text = dependencies.versions()

    def _onRunChanged(self, run) -> None:
        self.progress.show(run)
        if run.active:
            return
        if run.state is State.DONE:
            cost, began = self._began
            each = (time.monotonic() - began) / len(run.reports)
            times.add(cost, times.taken(cost, each, run.reports))
        anchor = run.results.anchor if run.results is not None else None  # of a series that was cancelled too
        if anchor is not None and anchor.GetScene() is not None:  # and that of a scene which is there still
            parameters = self._parameterNode or self.logic.getParameterNode()
            parameters.result = anchor
            self.deformation.present(parameters)
        self._refresh()

    def _refresh(self, _caller=None, _event=None) -> None:
        parameters = self._parameterNode
        if parameters is None:
            return
        self.choices.show(parameters)
        self.guidance.show(parameters)
        undoable = bool(self.logic.runner.undo)
        self.progress.allow(what_is_missing(parameters), self.logic.running, self._installs, undoable)
        self.ui.reinstallButton.setEnabled(not self.logic.running and not self._installs)
        self.deformation.show(parameters)

    def _onSceneStartsToChange(self, _caller, _event) -> None:
        self.deformation.forget()  # also behind another module: the next scene's nodes may have the same IDs
        self.setParameterNode(None)  # or the selectors would write what they show in between
        self.logic.forgetParameters()  # or the wrapper would write the values that it holds over those that come

    def _onSceneRenewed(self, _caller, _event) -> None:
        self.deformation.forget()
        if self.parent.isEntered:
            self.initializeParameterNode()


class CLMorphSlicerLogic(ScriptedLoadableModuleLogic):
    """Segments and registers volumes, with or without the window. startProcess(command, folder) starts the engine."""

    def __init__(self, startProcess=start_process) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.runner = Runner(startProcess)
        self._parameters = None

    def getParameterNode(self) -> CLMorphSlicerParameterNode:
        """The parameters of this scene, wrapped once: each wrapper has its own observers of the node.

        New ones begin with the choices of the last session.
        """
        node = super().getParameterNode()
        if self._parameters is None or self._parameters.parameterNode is not node:
            isNew = node.GetParameterCount() == 0
            forget_unreadable(node)
            self._parameters = CLMorphSlicerParameterNode(node)
            if isNew:
                settings.recall(self._parameters)
        return self._parameters

    def forgetParameters(self) -> None:
        """Wrap the parameters anew when they are asked for next: a wrapper keeps values, whatever a scene brings."""
        self._parameters = None

    @property
    def run(self) -> Run | Series | None:
        """The last run, or the one that lasts."""
        return self.runner.run

    @property
    def running(self) -> bool:
        return self.runner.running

    def start(self, work: Work, changed=lambda run: None) -> Run | Series:
        """Start a run and return at once; changed(run) is called while it lasts and when it has ended.

        Raises ValueError when the input cannot be used, RuntimeError while another run lasts.
        """
        return self.runner.start(work, changed)

    def stop(self) -> None:
        """End a run at once; nothing of it stays."""
        self.runner.stop(_("The run was stopped because Slicer quits or reloads the module."))

    def segment(self, volumeNode, model: str | Path = "", **options) -> Results | list[Results]:
        """Segment a volume and return its results.Results when it is done; the window stays alive meanwhile.

        A list of volumes gives a list of results; a sequence node gives the results whose nodes its browser plays, with
        frames="follow" those of one frame that the others follow, with "each" those of each by itself.
        model: a shipped model's name (the first one if empty) or a folder; leave_out: a segmentation or labelmap of
        what must not count, as a lesion; further options as in CLMorphSlicerLib.options.Options. Raises ValueError for
        input that cannot be used, job.EngineError when the engine fails, job.EngineCancelled when the scene is closed
        meanwhile.
        """
        shipped = models.shipped_models()
        chosen = Options(model=model or (shipped[0].name if shipped else ""), **options)
        if isinstance(volumeNode, slicer.vtkMRMLSequenceNode):
            return self.runner.wait(work_on(Frames.of_sequence(volumeNode), chosen)).results
        if isinstance(volumeNode, (list, tuple)):
            return self.runner.wait(Volumes(list(volumeNode), chosen)).done
        return self.runner.wait(Segmentation(volumeNode, chosen)).results

    def register(self, fixedNode, movingNode, model: str | Path = "", **options) -> Results:
        """Lay a moving volume onto a fixed one and return the results.Results when it is done.

        model: as for segment, none if empty; landmarks: two nodes of the same points, in the fixed and in the moving
        volume; initial: a transform node that moves the moving volume about onto the fixed one; leave_out,
        moving_leave_out, and further options as in CLMorphSlicerLib.options.RegisterOptions. Raises as segment does.
        """
        chosen = RegisterOptions(model=model, **options)
        return self.runner.wait(Registration(fixedNode, movingNode, chosen)).results


class CLMorphSlicerTest(ScriptedLoadableModuleTest):
    """Segments a synthetic patient, made from a shipped atlas, with the real engine."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """What Slicer's Reload and Test runs; a test that is skipped tells its reason."""
        self.setUp()
        try:
            self.test_sample_is_segmented()
        except unittest.SkipTest as reason:
            self.delayDisplay(_("Test skipped: {reason}").format(reason=reason))

    def test_sample_is_segmented(self) -> None:
        missing = dependencies.missing()
        if missing and slicer.app.testingEnabled():  # as on the machine that builds extensions
            self.skipTest(_("{names} missing").format(names=", ".join(missing.names)))
        card = models.shipped_models()[0]
        self.delayDisplay(_("A synthetic patient is made from the atlas of {model}").format(model=card.title))
        volume = sample.add_sample(card)
        results = CLMorphSlicerLogic().segment(volume, card.name)
        dice = sample.mean_dice(card, results.segmentation, volume)
        self.assertGreater(dice, 0.5)
        self.assertIsNotNone(results.transform)
        self.delayDisplay(_("Test passed: mean Dice {dice:.2f}").format(dice=dice))
