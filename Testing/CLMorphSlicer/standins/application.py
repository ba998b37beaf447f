"""Gives the headless Slicer what its application has with Qt: modules `qt` and `ctk`, MRML widgets, `slicer.app`, the
base classes of scripted modules, translation, and the register of sample data.

    slicer_with_qt(headless)      then `import CLMorphSlicer` is the real module, and
    make_widget(CLMorphSlicer)    its real panel over the real scene
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import unittest
import urllib.request
from pathlib import Path
from typing import ClassVar

import slicer
import slicer.util
import vtk

from . import ctk, pythonqt, qt

sys.modules.setdefault("qt", qt)
sys.modules.setdefault("ctk", ctk)

from . import parameters, qmrml  # noqa: E402  (they import the two above by their names in Slicer)

MODULE_FOLDER = Path(__file__).resolve().parents[3] / "CLMorphSlicer"


class Application:
    """The part of `slicer.app` that has signals: it keeps the slots, and a test calls `emit`."""

    def __init__(self, headless_app: types.SimpleNamespace) -> None:
        self._slots: dict[str, list] = {}
        vars(self).update(vars(headless_app))
        self.processEvents = lambda *_: pythonqt.application().processEvents()
        self.moduleManager = lambda: self
        self.layoutManager = lambda: None
        # of one test: in its own file, gone with its temporary folder
        path = str(Path(self.temporaryPath) / "settings.ini")
        self.userSettings = self.settings = lambda: qt.QSettings(path, qt.QSettings.IniFormat)
        self.coreIOManager = lambda: IOManager
        self.cursors = []  # those that were set and not restored
        self.setOverrideCursor = self.cursors.append
        self.restoreOverrideCursor = self.cursors.pop

    def connect(self, signature: str, slot) -> bool:
        self._slots.setdefault(signature.split("(")[0], []).append(slot)
        return True

    def disconnect(self, signature: str, slot) -> bool:
        self._slots[signature.split("(")[0]].remove(slot)
        return True

    def emit(self, signal: str, *arguments) -> None:
        for slot in list(self._slots.get(signal, [])):
            slot(*arguments)


class ScriptedLoadableModule:
    def __init__(self, parent) -> None:
        self.parent, self.moduleName = parent, type(self).__name__

    def resourcePath(self, name: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / name)


class ScriptedLoadableModuleWidget:
    """As Base/Python/slicer/ScriptedLoadableModule.py; the developer section is missing."""

    def __init__(self, parent=None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent, self.layout = parent, parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self) -> None:
        """Slicer adds its developer section here."""

    def cleanup(self) -> None:
        """For modules to override."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


def reload_scripted_module(name: str) -> types.ModuleType:
    """As `slicer.util.reloadScriptedModule` in Base/Python/slicer/util.py.

    The file is executed anew, the old widget cleaned up, its contents taken away, and a new widget made and set up in
    the same panel: it is not entered, though the panel may be. That last step is qSlicerScriptedLoadableModuleWidget's
    reload() in Slicer.
    """
    spec = importlib.util.spec_from_file_location(name, slicer.util.modulePath(name))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    old = getattr(slicer.modules, f"{name}Widget")
    panel = old.parent
    old.cleanup()
    slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", old._onModuleAboutToBeUnloaded)
    while panel.layout().count():
        item = panel.layout().takeAt(0)
        if item.widget() is not None:
            item.widget().hide()
    widget = getattr(module, f"{name}Widget")(panel)
    setattr(slicer.modules, f"{name}Widget", widget)
    widget.setup()
    return module


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, _msec: int = 0) -> None:
        slicer.app.processEvents()


class IOManager:
    """The readers of files that Python modules bring, as Base/QTCore/qSlicerCoreIOManager.cxx uses them.

    A reader is taken by its type where the file has one of its endings.
    """

    readers: ClassVar[list] = []

    @staticmethod
    def loadNodes(fileType: str, properties: dict, loaded: vtk.vtkCollection) -> bool:
        for reader in IOManager.readers:
            endings = [part.strip("*)") for text in reader.extensions() for part in text.split("(")[1].split()]
            if reader.fileType() == fileType and properties["fileName"].endswith(tuple(endings)):
                done = reader.load(properties)
                for node_id in reader.parent.loadedNodes if done else []:
                    loaded.AddItem(slicer.mrmlScene.GetNodeByID(node_id))
                return done
        return False


class ReaderParent:
    """Slicer's side of a reader: what it loaded, and what it has to say."""

    def __init__(self) -> None:
        self.loadedNodes, self.messages = [], []

    def userMessages(self):
        return types.SimpleNamespace(AddMessage=lambda event, text: self.messages.append(text))


class SampleDataLogic:
    """The register of sample data, and its two ways to a sample, as Modules/Scripted/SampleData/SampleData.py.

    The button of a source with a custom downloader calls that; any other button, and downloadSample, copy the source's
    address into the cache and load the file by its type. Differs: one file for each source, no archives or scenes.
    """

    sources: ClassVar[dict[str, list]] = {}

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
        thumbnailFileName=None, loadFileTypes=None,
    ) -> None:  # fmt: skip
        source = types.SimpleNamespace(**{name: value for name, value in locals().items() if name != "category"})
        known = SampleDataLogic.sources.setdefault(category, [])
        if source.sampleName not in [other.sampleName for other in known]:
            known.append(source)

    def press(self, source) -> None:
        """The button of a source."""
        source.customDownloader(source) if source.customDownloader else self.downloadFromSource(source)

    def downloadSample(self, sampleName: str):
        found = [each for sources in self.sources.values() for each in sources if each.sampleName == sampleName]
        return self.downloadFromSource(found[0])[0]

    def downloadFromSource(self, source) -> list:
        path = Path(slicer.app.temporaryPath) / source.fileNames
        urllib.request.urlretrieve(source.uris, path)
        properties = {"fileName": str(path), "name": source.nodeNames}
        loaded = vtk.vtkCollection()
        if not slicer.app.coreIOManager().loadNodes(source.loadFileTypes, properties, loaded):
            raise RuntimeError(f"{path} could not be loaded")
        return [loaded.GetItemAsObject(0)]


def _module(name: str, **contents) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def slicer_with_qt(headless) -> None:
    """Complete the package `slicer` of a HeadlessSlicer; call it for each new one."""
    slicer.app = Application(slicer.app)
    for name, kind in qmrml.widgets().items():
        setattr(slicer, name, kind)
    bases = {kind.__name__: kind for kind in (ScriptedLoadableModule, ScriptedLoadableModuleWidget,
                                              ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest)}  # fmt: skip
    slicer.ScriptedLoadableModule = _module("slicer.ScriptedLoadableModule", __all__=list(bases), **bases)
    names = ("parameterNodeWrapper", "WithinRange", "Minimum", "Maximum", "Choice", "Default", "Decimals", "SingleStep")
    wrapper = {name: getattr(parameters, name) for name in names}
    slicer.parameterNodeWrapper = _module("slicer.parameterNodeWrapper", **wrapper)
    slicer.i18n = _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    SampleDataLogic.sources.clear()
    IOManager.readers.clear()
    _module("SampleData", SampleDataLogic=SampleDataLogic, downloadSample=SampleDataLogic().downloadSample)
    slicer.util.mainWindow = lambda: None  # while Slicer starts
    slicer.util.reloadScriptedModule = reload_scripted_module
    slicer.util.modulePath = lambda name: str(MODULE_FOLDER / f"{name}.py")
    if str(MODULE_FOLDER) not in sys.path:
        sys.path.append(str(MODULE_FOLDER))


def load_module(name: str = "CLMorphSlicer") -> types.ModuleType:
    """Import the module's own file and make its module object, as Slicer's start-up does."""
    module = importlib.import_module(name)
    parent = types.SimpleNamespace(path=str(MODULE_FOLDER / f"{name}.py"))
    getattr(module, name)(parent)
    reader = getattr(module, f"{name}FileReader", None)
    if reader is not None:
        IOManager.readers.append(reader(ReaderParent()))
    return module


def make_widget(module: types.ModuleType):
    """The module's widget in a panel of its own, set up and entered, as when the user opens the module."""
    panel = slicer.qMRMLWidget()
    panel.setLayout(qt.QVBoxLayout())
    panel.setMRMLScene(slicer.mrmlScene)
    widget = getattr(module, f"{module.__name__}Widget")(panel)
    setattr(slicer.modules, f"{module.__name__}Widget", widget)
    widget.setup()
    enter_module(widget)
    return widget


def enter_module(widget) -> None:
    """The user opens the module."""
    widget.parent.isEntered = True
    widget.enter()


def leave_module(widget) -> None:
    """The user goes to another module; the panel is kept."""
    widget.parent.isEntered = False
    widget.exit()
