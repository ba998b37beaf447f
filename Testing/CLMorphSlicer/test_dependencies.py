"""Installing what the engine needs: found missing, asked once, each its way, numpy and SimpleITK untouched."""

import importlib.util
import subprocess
import sys
import types

import pytest

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import dependencies


class Computer:
    """A Slicer with some packages; it notes what it is asked, and what is installed in which way."""

    def __init__(self, monkeypatch, packages=(), extension=True, answer=True, packaging=True) -> None:
        self.packages, self.questions, self.events, self.answer = set(packages), [], [], answer
        self.extension, self.extension_can_be_had = extension, True
        self.torch_arrives = True
        monkeypatch.setattr(dependencies, "is_installed", lambda requirement: requirement in self.packages)
        monkeypatch.setattr(dependencies, "has_extension", lambda: self.extension)
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", self.ask)
        monkeypatch.setattr(slicer.util, "restart", lambda: self.events.append("restart"), raising=False)
        monkeypatch.setattr(slicer.util, "pip_install", lambda names: self.install("pip_install", names), raising=False)
        monkeypatch.setattr(slicer, "app", self.application(), raising=False)
        logic = types.SimpleNamespace(installTorch=self.install_torch)
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

    def application(self) -> types.SimpleNamespace:
        manager = types.SimpleNamespace(installExtensionFromServer=self.install_extension)
        return types.SimpleNamespace(testingEnabled=lambda: False, extensionsManagerModel=lambda: manager)

    def ask(self, text: str, title: str = "") -> bool:
        self.questions.append(text)
        return self.answer

    def install(self, way: str, names: list[str]) -> None:
        self.events.append((way, tuple(names)))
        self.packages.update(names)

    def install_torch(self, askConfirmation: bool, torchVersionRequirement: str):
        assert not askConfirmation, "it was asked already"
        if self.torch_arrives:
            self.install("PyTorchUtils", [f"torch{torchVersionRequirement}"])
            return types.ModuleType("torch")
        return None

    def pip_ensure(self, names: list[str], prompt_install: bool, requester: str) -> None:
        assert not prompt_install and requester == "CLMorph"
        self.install("pip_ensure", names)

    def install_extension(self, name: str, restart: bool) -> bool:
        self.events.append(("extension", name, restart))
        return self.extension_can_be_had


ALL = (dependencies.TORCH, *dependencies.PACKAGES)


def test_nothing_is_asked_when_all_is_there(monkeypatch):
    computer = Computer(monkeypatch, packages=ALL)
    assert dependencies.ensure()
    assert not computer.questions and not computer.events


def test_one_question_lists_everything_and_each_goes_its_way(monkeypatch):
    computer = Computer(monkeypatch)
    assert dependencies.ensure()
    assert len(computer.questions) == 1
    for name in ("torch>=2.4", "safetensors", "tqdm"):
        assert name in computer.questions[0]
    assert computer.events == [("PyTorchUtils", ("torch>=2.4",)), ("pip_ensure", dependencies.PACKAGES)]


def test_only_what_is_missing_is_installed(monkeypatch):
    computer = Computer(monkeypatch, packages=(dependencies.TORCH, dependencies.PACKAGES[0]))
    assert dependencies.ensure()
    assert computer.events == [("pip_ensure", dependencies.PACKAGES[1:])]


def test_older_slicer_installs_with_pip_install(monkeypatch):
    computer = Computer(monkeypatch, packages=(dependencies.TORCH,), packaging=False)
    assert dependencies.ensure()
    assert computer.events == [("pip_install", dependencies.PACKAGES)]


def test_no_means_no(monkeypatch):
    computer = Computer(monkeypatch, answer=False)
    assert not dependencies.ensure()
    assert not computer.events


def test_extension_is_offered_when_it_is_missing(monkeypatch):
    computer = Computer(monkeypatch, extension=False)
    assert not dependencies.ensure()  # Slicer restarts first
    assert "PyTorch extension" in computer.questions[0]
    assert computer.events == [("extension", "PyTorch", False), "restart"]


def test_extension_that_cannot_be_had_is_an_error_and_no_restart(monkeypatch):
    computer = Computer(monkeypatch, extension=False)
    computer.extension_can_be_had = False
    with pytest.raises(dependencies.InstallationError, match="Extensions Manager"):
        dependencies.ensure()
    assert "restart" not in computer.events


def test_extension_is_not_needed_when_torch_is_there(monkeypatch):
    computer = Computer(monkeypatch, packages=(dependencies.TORCH,), extension=False)
    assert dependencies.ensure()
    assert computer.events == [("pip_ensure", dependencies.PACKAGES)]


def test_torch_that_was_not_installed_is_an_error(monkeypatch):
    Computer(monkeypatch).torch_arrives = False
    with pytest.raises(dependencies.InstallationError, match="PyTorch was not installed"):
        dependencies.ensure()


def test_pip_that_fails_is_told_in_one_sentence(monkeypatch):
    computer = Computer(monkeypatch, packages=(dependencies.TORCH,))

    def fails(names, **options):
        raise subprocess.CalledProcessError(1, ["pip"])

    computer.pip_ensure = fails
    sys.modules["slicer.packaging"].pip_ensure = fails
    with pytest.raises(dependencies.InstallationError, match="broke off"):
        dependencies.ensure()


def test_package_still_missing_after_pip_is_an_error(monkeypatch):
    Computer(monkeypatch, packages=(dependencies.TORCH,))
    sys.modules["slicer.packaging"].pip_ensure = lambda names, **options: None
    with pytest.raises(dependencies.InstallationError, match="safetensors"):
        dependencies.ensure()


def test_nothing_is_installed_while_slicer_tests_itself(monkeypatch):
    computer = Computer(monkeypatch)
    slicer.app.testingEnabled = lambda: True
    with pytest.raises(dependencies.InstallationError, match="tests itself"):
        dependencies.ensure()
    assert not computer.events


def test_numpy_and_simpleitk_are_never_asked_for():
    asked = " ".join(ALL).lower()
    assert "numpy" not in asked and "simpleitk" not in asked


# -- what counts as installed


def put(folder, version: str, code: bool = True) -> None:
    """A package called madeup in a folder; without its code it is one whose installation broke off."""
    (folder / "madeup").mkdir(parents=True)
    if code:
        (folder / "madeup" / "__init__.py").touch()
    information = folder / f"madeup-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: madeup\nVersion: {version}\n")


@pytest.mark.parametrize(
    "version, code, expected",
    [("2.13.0+cpu", True, True), ("2.4", True, True), ("2.3.1", True, False), ("10.0.0", True, True),
     ("2.13.0", False, False)],
)  # fmt: skip
def test_version_and_wholeness_decide(tmp_path, monkeypatch, version, code, expected):
    put(tmp_path, version, code)
    monkeypatch.syspath_prepend(tmp_path)
    assert dependencies.is_installed("madeup>=2.4") is expected


def test_package_that_was_never_there_is_missing():
    assert not dependencies.is_installed("never-heard-of-it>=1")
