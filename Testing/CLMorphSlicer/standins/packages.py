"""Stand-ins: the PyTorch extension's logic, pip and the Extensions Manager; they note what they do."""

from __future__ import annotations

import importlib.util
import sys
import types

import slicer
import slicer.util
from CLMorphSlicerLib import dependencies


class ExtensionsManager:
    """As Base/QTCore/qSlicerExtensionsManagerModel.cxx: while it is interactive it asks before it installs.

    "No" is a failure like any other; a download that fails is none: installExtensionFromServer is true all the same.
    """

    def __init__(self, computer: Computer) -> None:
        self._computer, self.interactive = computer, True

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self._computer.installed_extensions

    def installExtensionFromServer(self, name: str, restart: bool = True) -> bool:
        computer = self._computer
        if self.interactive and not computer.ask(f"Do you want to install {name}?"):
            return False
        computer.events.append(("extension", name))
        if computer.extension_can_be_had:
            computer.installed_extensions.add(name)
            if restart and (not self.interactive or computer.ask("Restart?")):
                slicer.util.restart()
        return True


class Computer:
    """A Slicer with some packages; it notes what it is asked, and what is installed in which way.

    answer: to the questions whether to install; restarts: to those whether to restart. `meanwhile` is called in the
    middle of an installation, when Slicer lets its window live. torch_arrives: whether PyTorchUtilsLogic.installTorch
    (SlicerPyTorch's PyTorchUtils.py) gives torch or None; torch_fails: what it raises when it imports what it has just
    installed, as for a library that does not load.
    """

    def __init__(self, monkeypatch, packages=(), extension=True, answer=True, restarts=True, packaging=True) -> None:
        self.packages, self.questions, self.events = set(packages), [], []
        self.answer, self.restarts, self.meanwhile = answer, restarts, lambda: None
        self.extension, self.extension_can_be_had, self.installed_extensions = extension, True, set()
        self.torch_arrives, self.manager, self.torch_fails = True, ExtensionsManager(self), None
        monkeypatch.setattr(dependencies, "is_installed", lambda requirement: requirement in self.packages)
        monkeypatch.setattr(dependencies, "has_extension", lambda: self.extension)
        self._replace_slicer(monkeypatch)
        self._replace_installers(monkeypatch, packaging)

    def _replace_slicer(self, monkeypatch) -> None:
        monkeypatch.setattr(slicer, "app", getattr(slicer, "app", types.SimpleNamespace()), raising=False)
        monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False, raising=False)
        monkeypatch.setattr(slicer.app, "extensionsManagerModel", lambda: self.manager, raising=False)
        for name in ("confirmOkCancelDisplay", "confirmYesNoDisplay"):
            monkeypatch.setattr(slicer.util, name, self.ask, raising=False)
        monkeypatch.setattr(slicer.util, "restart", lambda: self.events.append("restart"), raising=False)

    def _replace_installers(self, monkeypatch, packaging: bool) -> None:
        monkeypatch.setattr(slicer.util, "pip_install", lambda names: self.install("pip_install", names), raising=False)
        logic = types.SimpleNamespace(installTorch=self.install_torch, uninstallTorch=lambda: self.remove(["torch"]))
        monkeypatch.setattr(slicer.util, "pip_uninstall", self.remove, raising=False)
        utils = types.SimpleNamespace(PyTorchUtilsLogic=lambda: logic)
        monkeypatch.setitem(sys.modules, "PyTorchUtils", utils)
        found = importlib.util.find_spec
        modern = types.SimpleNamespace(pip_ensure=self.pip_ensure)
        monkeypatch.setitem(sys.modules, "slicer.packaging", modern)
        monkeypatch.setattr(
            dependencies.importlib.util,
            "find_spec",
            lambda name: (packaging or None) if name == "slicer.packaging" else found(name),
        )

    def ask(self, text: str, title: str = "") -> bool:
        self.questions.append(text)
        return self.restarts if "restart slicer now" in text.lower() else self.answer

    def install(self, way: str, names: list[str]) -> None:
        self.meanwhile()
        self.events.append((way, tuple(names)))
        self.packages.update(names)

    def remove(self, names: list[str]) -> None:
        self.events.append(("removed", tuple(names)))
        self.packages -= {each for each in self.packages if each.split(">=")[0] in names}

    def install_torch(self, askConfirmation: bool, torchVersionRequirement: str):
        assert not askConfirmation, "it was asked already"
        if self.torch_arrives:
            self.install("PyTorchUtils", [f"torch{torchVersionRequirement}"])
            if self.torch_fails is not None:
                raise self.torch_fails
            return types.ModuleType("torch")
        return None

    def pip_ensure(self, names: list[str], prompt_install: bool, requester: str) -> None:
        assert not prompt_install and requester == "CLMorph"
        self.install("pip_ensure", names)
