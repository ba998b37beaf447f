"""The Python packages that the engine needs and Slicer lacks: found missing, confirmed once, installed.

torch comes through the PyTorch extension, which picks the build for this computer's graphics card. numpy and SimpleITK
are Slicer's own and are never touched.
"""

import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import slicer

TORCH_VERSION = ">=2.4"
TORCH = f"torch{TORCH_VERSION}"
PACKAGES = ("pydicom>=2.3", "safetensors>=0.4", "tqdm>=4.60")  # none depends on a package that Slicer has


class InstallationError(RuntimeError):
    """A package could not be had; the text says what to do."""


@dataclass(frozen=True)
class Missing:
    """What has to be installed: the PyTorch extension first, then torch, then packages."""

    extension: bool
    torch: bool
    packages: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.torch or bool(self.packages)

    @property
    def names(self) -> list[str]:
        """One line each, for the confirmation."""
        torch = [f"{TORCH}, through the PyTorch extension (some hundred MB to 3 GB)"] if self.torch else []
        return torch + list(self.packages)


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", text).group().split("."))


def is_installed(requirement: str) -> bool:
    """Whether a requirement of the form name>=version is met by a package that is there as a whole."""
    name, least = requirement.split(">=")
    importlib.invalidate_caches()
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    found = importlib.util.find_spec(name)
    whole = found is not None and found.origin is not None  # one that broke off leaves a folder without code
    return whole and _version(version) >= _version(least)


def has_extension() -> bool:
    """Whether the PyTorch extension is loaded."""
    return importlib.util.find_spec("PyTorchUtils") is not None


def missing() -> Missing:
    """What this Slicer lacks."""
    torch = not is_installed(TORCH)
    return Missing(torch and not has_extension(), torch, tuple(name for name in PACKAGES if not is_installed(name)))


def ensure(during: Callable[[], AbstractContextManager] = nullcontext) -> bool:
    """Install what is missing after one confirmation. False when the user declines or Slicer has to restart first.

    What installs lets Slicer's window live meanwhile; `during` gives the context in which that happens.
    Raises InstallationError when something cannot be installed.
    """
    needed = missing()
    if not needed:
        return True
    if slicer.app.testingEnabled():
        raise InstallationError(f"{', '.join(needed.names)}: missing; nothing is installed while Slicer tests itself")
    if needed.extension:
        return _offer_extension(during)
    listed = "\n".join(f"  • {name}" for name in needed.names)
    question = (
        f"CLMorph needs these Python packages, which will be downloaded and installed into Slicer:\n\n{listed}\n\n"
        "This happens once and can take some minutes. Install them now?"
    )
    if not slicer.util.confirmOkCancelDisplay(question, "CLMorph"):
        return False
    try:
        with during():
            if needed.torch:
                _install_torch()
            if needed.packages:
                _install_packages(list(needed.packages))
    except (subprocess.SubprocessError, ImportError, OSError) as error:  # pip, or a library that does not load
        raise InstallationError(f"The installation broke off: {error}; restart Slicer and try again") from error
    left = missing()
    if left:
        raise InstallationError(f"{', '.join(left.names)} could not be installed; restart Slicer and try again")
    return True


def _offer_extension(during: Callable[[], AbstractContextManager]) -> bool:
    manager = slicer.app.extensionsManagerModel()
    if manager.isExtensionInstalled("PyTorch"):
        raise InstallationError(
            "The PyTorch extension is installed but not loaded: restart Slicer, or enable it in the Extensions Manager"
        )
    question = (
        "CLMorph computes with PyTorch, which the extension “PyTorch” installs; that extension is missing.\n\n"
        "Install the PyTorch extension now? Slicer has to restart afterwards."
    )
    if not slicer.util.confirmOkCancelDisplay(question, "CLMorph"):
        return False
    with during():
        _install_extension(manager)
    later = "Restart Slicer now? Unsaved data is lost. With “No” you can save it first and restart Slicer later."
    if slicer.util.confirmYesNoDisplay(f"The PyTorch extension is installed.\n\n{later}", "CLMorph"):
        slicer.util.restart()
    return False


def _install_extension(manager: "slicer.qSlicerExtensionsManagerModel") -> None:
    interactive = manager.interactive
    manager.interactive = False  # or it would ask the same again
    try:
        installed = manager.installExtensionFromServer("PyTorch", False)
    finally:
        manager.interactive = interactive
    if not installed:
        raise InstallationError(
            "The PyTorch extension could not be installed; install it in the Extensions Manager and restart Slicer"
        )


def _install_torch() -> None:
    import PyTorchUtils

    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION) is None:
        raise InstallationError("PyTorch was not installed; see the module “PyTorch Util” and try again")


def _install_packages(packages: list[str]) -> None:
    if importlib.util.find_spec("slicer.packaging") is not None:
        from slicer.packaging import pip_ensure

        pip_ensure(packages, prompt_install=False, requester="CLMorph")
    else:  # Slicer 5.10
        slicer.util.pip_install(packages)
