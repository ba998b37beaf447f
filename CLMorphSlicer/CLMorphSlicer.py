"""CLMorph in 3D Slicer: choose a scan, press Segment, see the structures and the deformation behind them.

The computing is done by the engine CLMorphCore in a process of its own (CLMorphSlicerLib/job.py); this file is the
window, and the way to do the same from Python:

    from CLMorphSlicer import CLMorphSlicerLogic
    results = CLMorphSlicerLogic().segment(volumeNode, model="hippocampus")
"""

import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ctk
import qt
import slicer
import vtk
from CLMorphSlicerLib import dependencies, models, nodes, panel, sample
from CLMorphSlicerLib.job import State, start_process
from CLMorphSlicerLib.parameters import (
    FOLDER,
    Alignment,
    CLMorphSlicerParameterNode,
    atlases_of_model,
    options_of,
    what_is_missing,
    why_one_atlas,
)
from CLMorphSlicerLib.run import Options, Run, frames_of, gather_segmentations, why_not
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

POLL_MS = 100


class CLMorphSlicer(ScriptedLoadableModule):
    """What Slicer's list of modules shows."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CLMorph")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["CLMorph developers"]
        self.parent.helpText = _(
            "Finds anatomical structures by warping a labelled atlas onto the image, and shows how it was warped."
        )
        self.parent.acknowledgementText = _("For research. Not a medical device.")
        slicer.app.connect("startupCompleted()", onStartupCompleted)


def onStartupCompleted() -> None:
    """What needs the whole application: the sample data, and results that were saved in scenes."""
    registerSampleData()
    nodes.watch_scene_loading()


def registerSampleData() -> None:
    """Offer a synthetic patient for each shipped model in the module Sample Data; nothing is downloaded."""
    import SampleData

    for card in models.shipped_models():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="CLMorph",
            sampleName=f"CLMorph {card.title}",
            uris="",
            fileNames=None,
            nodeNames=f"CLMorph {card.title}",
            thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "CLMorphSlicer.png"),
            customDownloader=lambda source, card=card: sample.add_sample(card),
        )


class CLMorphSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The window: it shows the parameters and the run, and leaves the work to the logic."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None
        self._installs = False  # while packages are installed

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        window = slicer.util.loadUI(self.resourcePath("UI/CLMorphSlicer.ui"))
        self.layout.addWidget(window)
        self.ui = slicer.util.childWidgetVariables(window)
        window.setMRMLScene(slicer.mrmlScene)
        self.logic = CLMorphSlicerLogic()
        self.progress = panel.ProgressPanel(self.ui)
        self.deformation = panel.DeformationPanel(self.ui)
        self.ui.modelFolderEdit.filters = ctk.ctkPathLineEdit.Dirs
        self.ui.resultSelector.addAttribute("vtkMRMLTransformNode", nodes.RESULT_ATTRIBUTE)
        self.ui.segmentsTable.jumpToSelectedSegmentEnabled = True
        self._offerModels()
        self.ui.modelSelector.connect("currentIndexChanged(int)", self._onModelChosen)
        self.ui.modelFolderEdit.connect("currentPathChanged(QString)", self._onFolderChosen)
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.show3DCheckBox.connect("toggled(bool)", self.deformation.show_structures_in_3d)
        scene = slicer.mrmlScene
        for event in (scene.StartCloseEvent, scene.StartImportEvent):
            self.addObserver(scene, event, self._onSceneStartsToChange)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self._onSceneRenewed)
        slicer.app.connect("aboutToQuit()", self.cleanup)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """The window goes, or Slicer quits: nothing may stay running."""
        if self.logic is not None:
            self.logic.stop()
            self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()
        self.deformation.follow_crosshair(True)

    def exit(self) -> None:
        self.deformation.follow_crosshair(False)
        self.setParameterNode(None)

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            self._parameterNode.inputVolume = nodes.likely_input()

    def setParameterNode(self, parameterNode) -> None:
        """Show and observe these parameters; None shows none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._refresh)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._refresh)
            self._refresh()

    def onSegment(self, _checked: bool = False) -> None:
        """Start a run with what the window shows."""
        parameters = self._parameterNode
        try:
            if dependencies.ensure(self._installing):
                self.progress.start(parameters.keepFiles)
                self.logic.start(parameters.inputVolume, options_of(parameters), self._onRunChanged)
        except (ValueError, RuntimeError, OSError) as error:
            self.progress.fail(error)
        self._refresh()

    @contextmanager
    def _installing(self):
        """Segment cannot be pressed a second time, though Slicer lets its window live meanwhile."""
        self._installs = True
        self._refresh()
        try:
            with panel.wait_cursor():
                yield
        finally:
            self._installs = False

    def onCancel(self, _checked: bool = False) -> None:
        if self.logic.running:
            self.logic.run.cancel()
            self._onRunChanged(self.logic.run)

    def _onRunChanged(self, run: Run) -> None:
        self.progress.show(run)
        if run.active:
            return
        if run.state is State.DONE:
            parameters = self._parameterNode or self.logic.getParameterNode()
            parameters.result = run.results.transform
            parameters.spacing = panel.spacing_for(run.results.transform)
            self.deformation.present(parameters)
        self._refresh()
        if run.state is State.FAILED:
            slicer.util.errorDisplay(str(run.error), "CLMorph", detailedText=getattr(run.error, "log", ""))

    def _refresh(self, _caller=None, _event=None) -> None:
        parameters = self._parameterNode
        if parameters is None:
            return
        self._showModel(parameters)
        for widget in (self.ui.atlasVolumeLabel, self.ui.atlasVolumeSelector,
                       self.ui.atlasLabelsLabel, self.ui.atlasLabelsSelector):  # fmt: skip
            widget.setVisible(parameters.useSceneAtlas)
        byTransform = parameters.alignment is Alignment.TRANSFORM
        self.ui.initialTransformLabel.setVisible(byTransform)
        self.ui.initialTransformSelector.setVisible(byTransform)
        self._showAtlases(parameters)
        self.progress.allow(what_is_missing(parameters), self.logic.running, self._installs)
        self.deformation.show(parameters)

    def _offerModels(self) -> None:
        for card in models.shipped_models():
            self.ui.modelSelector.addItem(card.title, card.name)
        self.ui.modelSelector.addItem(_("Another, in a folder …"), FOLDER)

    def _showModel(self, parameters) -> None:
        choices = [self.ui.modelSelector.itemData(index) for index in range(self.ui.modelSelector.count)]
        if parameters.model not in choices:
            parameters.model = choices[0]
        self.ui.modelSelector.currentIndex = choices.index(parameters.model)
        byFolder = parameters.model == FOLDER
        self.ui.modelFolderLabel.setVisible(byFolder)
        self.ui.modelFolderEdit.setVisible(byFolder)
        if self.ui.modelFolderEdit.currentPath != parameters.modelFolder:
            self.ui.modelFolderEdit.currentPath = parameters.modelFolder
        described = {card.name: card.description for card in models.shipped_models()}.get(parameters.model, "")
        self.ui.modelDescriptionLabel.text = described
        self.ui.modelDescriptionLabel.setVisible(bool(described))

    def _showAtlases(self, parameters) -> None:
        reason = why_one_atlas(parameters)
        if not reason:
            count = atlases_of_model(parameters)
            if parameters.atlases > count:
                parameters.atlases = count
            self.ui.atlasesSpinBox.maximum = count
        self.ui.atlasesSpinBox.setVisible(not reason)
        self.ui.oneAtlasLabel.text = reason
        self.ui.oneAtlasLabel.setVisible(bool(reason))
        fused = not reason and parameters.atlases > 1
        self.ui.fusionLabel.setVisible(fused)
        self.ui.fusionSelector.setVisible(fused)

    def _onModelChosen(self, index: int) -> None:
        if self._parameterNode is not None and index >= 0:
            self._parameterNode.model = self.ui.modelSelector.itemData(index)

    def _onFolderChosen(self, path: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.modelFolder = path

    def _onSceneStartsToChange(self, _caller, _event) -> None:
        self.deformation.forget()  # also behind another module: the next scene's nodes may have the same IDs
        self.setParameterNode(None)  # or the selectors would write what they show in between

    def _onSceneRenewed(self, _caller, _event) -> None:
        self.deformation.forget()
        if self.parent.isEntered:
            self.initializeParameterNode()


class CLMorphSlicerLogic(ScriptedLoadableModuleLogic):
    """Segments volumes, with or without the window. startProcess(command, folder) starts the engine."""

    def __init__(self, startProcess=start_process) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.startProcess = startProcess
        self.run = None
        self._timer = None
        self._parameters = None

    def getParameterNode(self) -> CLMorphSlicerParameterNode:
        """The parameters of this scene, wrapped once: each wrapper has its own observers of the node."""
        node = super().getParameterNode()
        if self._parameters is None or self._parameters.parameterNode is not node:
            self._parameters = CLMorphSlicerParameterNode(node)
        return self._parameters

    @property
    def running(self) -> bool:
        return self.run is not None and self.run.active

    def start(self, volumeNode, options: Options, changed=lambda run: None) -> Run:
        """Start a run and return at once; changed(run) is called while it lasts and when it has ended.

        Raises ValueError when the input cannot be used, RuntimeError while another run lasts.
        """
        if self.running:
            raise RuntimeError(_("A segmentation is running already; cancel it or wait for its end."))
        reason = why_not(volumeNode, options)
        if reason:
            raise ValueError(reason)
        self.run = Run(volumeNode, options, start=self.startProcess)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", lambda: self._look(changed))
        self._timer.start()
        return self.run

    def stop(self) -> None:
        """End a run at once; nothing of it stays."""
        if self._timer is not None:
            self._timer.stop()
        if self.run is not None:
            self.run.abort(_("The segmentation was stopped because Slicer quits."))

    def segment(self, volumeNode, model: str | Path = "", **options):
        """Segment a volume and return its nodes.Results when it is done; the window stays alive meanwhile.

        A list of volumes or a sequence node gives a list of results; a sequence's volumes are put into the scene, and
        their segmentations make a sequence too. model: a shipped model's name (the first one if
        empty) or a folder; further options as in CLMorphSlicerLib.run.Options. Raises ValueError for input that cannot
        be used, job.EngineError when the engine fails, job.EngineCancelled when the scene is closed meanwhile.
        """
        if isinstance(volumeNode, slicer.vtkMRMLSequenceNode):
            results = self.segment(frames_of(volumeNode), model, **options)
            gather_segmentations(volumeNode, results)
            return results
        if isinstance(volumeNode, (list, tuple)):
            return [self.segment(volume, model, **options) for volume in volumeNode]
        shipped = models.shipped_models()
        chosen = Options(model=model or (shipped[0].name if shipped else ""), **options)
        reason = why_not(volumeNode, chosen)
        if reason:
            raise ValueError(reason)
        if not dependencies.ensure():
            raise RuntimeError(_("The packages that CLMorph needs are not installed."))
        return self._wait(Run(volumeNode, chosen, start=self.startProcess))

    def _look(self, changed) -> None:
        self._poll(self.run)
        if not self.run.active:
            self._timer.stop()
        changed(self.run)

    @staticmethod
    def _poll(run: Run) -> None:
        with panel.wait_cursor() if run.about_to_load else nullcontext():
            run.poll()

    def _wait(self, run: Run) -> nodes.Results:
        try:
            while run.active:
                slicer.app.processEvents()
                time.sleep(0.02)
                self._poll(run)
        finally:
            run.abort(_("The segmentation was interrupted."))
        if run.error is not None:
            raise run.error
        return run.results


class CLMorphSlicerTest(ScriptedLoadableModuleTest):
    """Segments a synthetic patient, made from a shipped atlas, with the real engine."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_sample_is_segmented()

    def test_sample_is_segmented(self) -> None:
        card = models.shipped_models()[0]
        self.delayDisplay(_("A synthetic patient is made from the atlas of {model}").format(model=card.title))
        volume = sample.add_sample(card)
        results = CLMorphSlicerLogic().segment(volume, card.name)
        dice = sample.mean_dice(card, results.segmentation, volume)
        self.assertGreater(dice, 0.5)
        self.assertIsNotNone(results.transform)
        self.delayDisplay(_("Test passed: mean Dice {dice:.2f}").format(dice=dice))
