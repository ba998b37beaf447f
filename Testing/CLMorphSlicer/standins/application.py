"""Gives the headless Slicer what its application has with Qt: modules `qt` and `ctk`, MRML widgets, `slicer.app`, the
base classes of scripted modules, translation, and the register of sample data.

    slicer_with_qt(headless)      then `import CLMorphSlicer` is the real module, and
    make_widget(CLMorphSlicer)    its real panel over the real scene
"""

from __future__ import annotations

import importlib
import sys
import types
import unittest
from pathlib import Path
from typing import ClassVar

import slicer
import slicer.util

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
        self.userSettings = self.settings = lambda: qt.QSettings("CLMorph", "tests")
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
    def __init__(self, parent=None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent, self.layout = parent, parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._about_to_be_unloaded)

    def setup(self) -> None:
        """Slicer adds its developer section here."""

    def cleanup(self) -> None:
        """For modules to override."""

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def _about_to_be_unloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()


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


class SampleDataLogic:
    """The register of sample data: categories of sources, which a test reads."""

    sources: ClassVar[dict[str, list]] = {}

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        SampleDataLogic.sources.setdefault(category, [])

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **source) -> None:
        source = types.SimpleNamespace(**source)
        known = SampleDataLogic.sources.setdefault(category, [])
        if source.sampleName not in [other.sampleName for other in known]:
            known.append(source)


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
    _module("SampleData", SampleDataLogic=SampleDataLogic)
    slicer.util.modulePath = lambda name: str(MODULE_FOLDER / f"{name}.py")
    if str(MODULE_FOLDER) not in sys.path:
        sys.path.append(str(MODULE_FOLDER))


def load_module(name: str = "CLMorphSlicer") -> types.ModuleType:
    """Import the module's own file and make its module object, as Slicer's start-up does."""
    module = importlib.import_module(name)
    parent = types.SimpleNamespace(path=str(MODULE_FOLDER / f"{name}.py"))
    getattr(module, name)(parent)
    return module


def make_widget(module: types.ModuleType):
    """The module's widget in a panel of its own, set up and entered, as when the user opens the module."""
    panel = slicer.qMRMLWidget()
    panel.setLayout(qt.QVBoxLayout())
    panel.setMRMLScene(slicer.mrmlScene)
    widget = getattr(module, f"{module.__name__}Widget")(panel)
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
