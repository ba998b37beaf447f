"""Installing what the engine needs: found missing, asked once, each its way, numpy and SimpleITK untouched."""

import contextlib
import subprocess
import sys

import pytest

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import dependencies
from standins.packages import Computer

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


def test_installation_happens_in_the_callers_context_and_the_question_before_it(monkeypatch):
    computer = Computer(monkeypatch)

    @contextlib.contextmanager
    def during():
        computer.events.append(f"begins after {len(computer.questions)} question")
        yield
        computer.events.append("ends")

    assert dependencies.ensure(during)
    assert computer.events[0] == "begins after 1 question" and computer.events[-1] == "ends"
    assert len(computer.events) == 4


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


def test_extension_is_offered_when_it_is_missing_and_slicer_restarted_when_that_is_wanted(monkeypatch):
    computer = Computer(monkeypatch, extension=False)
    assert not dependencies.ensure()  # Slicer restarts first
    asked, restart = computer.questions  # none by the Extensions Manager, which would ask the first once more
    assert "PyTorch extension" in asked and "Unsaved data is lost" in restart
    assert computer.events == [("extension", "PyTorch"), "restart"]
    assert computer.manager.interactive


def test_scene_is_not_lost_to_a_restart_that_is_not_wanted(monkeypatch):
    computer = Computer(monkeypatch, extension=False, restarts=False)
    assert not dependencies.ensure()
    assert computer.events == [("extension", "PyTorch")]


def test_no_to_the_extension_is_no_error(monkeypatch):
    computer = Computer(monkeypatch, extension=False, answer=False)
    assert not dependencies.ensure()
    assert len(computer.questions) == 1 and not computer.events


@pytest.mark.parametrize("interactive", [True, False])
def test_extension_that_cannot_be_had_is_an_error_and_no_restart(monkeypatch, interactive):
    computer = Computer(monkeypatch, extension=False)
    computer.extension_can_be_had, computer.manager.interactive = False, interactive
    with pytest.raises(dependencies.InstallationError, match="Extensions Manager"):
        dependencies.ensure()
    assert "restart" not in computer.events and computer.manager.interactive is interactive


def test_extension_that_is_installed_and_not_loaded_is_not_installed_again(monkeypatch):
    computer = Computer(monkeypatch, extension=False)
    computer.installed_extensions.add("PyTorch")
    with pytest.raises(dependencies.InstallationError, match="restart Slicer, or enable it"):
        dependencies.ensure()
    assert not computer.questions and not computer.events


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


# -- installations that fail in ways of their own


def test_torch_that_slicer_cannot_import_counts_where_it_is_installed(monkeypatch):
    computer = Computer(monkeypatch)
    computer.torch_fails = OSError("[WinError 1114] a DLL initialization routine failed")  # the engine's process may
    assert dependencies.ensure()
    assert computer.events == [("PyTorchUtils", ("torch>=2.4",)), ("pip_ensure", dependencies.PACKAGES)]


@pytest.mark.parametrize("error", [RuntimeError("no"), ValueError("no"), KeyError("no"), SystemError("no")])
def test_installation_that_fails_with_anything_is_told_with_what_is_missing(monkeypatch, error):
    computer = Computer(monkeypatch, packages=dependencies.PACKAGES)

    def fails(**options):
        raise error

    sys.modules["PyTorchUtils"].PyTorchUtilsLogic().installTorch = fails
    with pytest.raises(dependencies.InstallationError, match=r"broke off .*no.*torch>=2.4.* missing"):
        dependencies.ensure()
    assert computer.events == []


# -- Reinstall


def test_reinstall_removes_everything_and_installs_it_anew(monkeypatch):
    computer = Computer(monkeypatch, packages=ALL)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert dependencies.reinstall()
    names = tuple(name.split(">=")[0] for name in dependencies.PACKAGES)
    assert computer.events == [
        ("removed", ("torch",)),
        ("removed", names),
        ("PyTorchUtils", ("torch>=2.4",)),
        ("pip_ensure", dependencies.PACKAGES),
    ]
    assert len(computer.questions) == 1


def test_reinstall_is_refused_while_torch_is_in_use(monkeypatch):
    computer = Computer(monkeypatch, packages=ALL)
    monkeypatch.setitem(sys.modules, "torch", object())
    with pytest.raises(dependencies.InstallationError, match="restart Slicer"):
        dependencies.reinstall()
    assert not computer.events and not computer.questions


def test_reinstall_that_is_declined_removes_nothing(monkeypatch):
    computer = Computer(monkeypatch, packages=ALL, answer=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not dependencies.reinstall()
    assert not computer.events


def test_versions_name_what_is_there_and_what_is_missing(monkeypatch):
    found = {dependencies.TORCH: "2.13.0+cpu", dependencies.PACKAGES[0]: "0.4.5"}
    monkeypatch.setattr(dependencies, "installed_version", found.get)
    assert dependencies.versions() == "torch 2.13.0+cpu · safetensors 0.4.5 · tqdm: missing"
