"""The Python packages that the engine needs and Slicer lacks: found missing, confirmed once, installed.

torch comes through the PyTorch extension, which picks the build for this computer's graphics card. numpy, SimpleITK
and pydicom are Slicer's own and are never touched.
"""

import importlib
import importlib.metadata
import importlib.util
import logging
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import slicer

from .words import _

TORCH_VERSION = ">=2.4"
TORCH = f"torch{TORCH_VERSION}"
PACKAGES = ("safetensors>=0.4", "tqdm>=4.60")  # neither depends on another package that Slicer already has


# Networks that take the brain out of a head. Its own dependencies bring a window toolkit and pandas along; the engine
# reads two of its files, and imports nothing of it.
NETWORKS = "deepbet==1.0.2"


class InstallationError(RuntimeError):
    """A package could not be had; the text says what to do."""


@dataclass(frozen=True)
class Missing:
    """What has to be installed: the PyTorch extension first, then torch, then packages, then networks for heads."""

    extension: bool
    torch: bool
    packages: tuple[str, ...]
    networks: bool = False

    def __bool__(self) -> bool:
        return self.torch or bool(self.packages) or self.networks

    @property
    def names(self) -> list[str]:
        """One line each, for the confirmation."""
        size = _("{torch}, through the PyTorch extension (some hundred MB to 3 GB)").format(torch=TORCH)
        brains = _("{networks}, which takes the brain out of a whole head (16 MB)").format(networks=NETWORKS)
        return ([size] if self.torch else []) + list(self.packages) + ([brains] if self.networks else [])


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" -> (2, 13, 0)."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in numbers.group().split(".")) if numbers else ()


def _name(requirement: str) -> str:
    return re.split("[=>]=", requirement)[0]


def installed_version(requirement: str) -> str | None:
    """The version of the package that a requirement of the form name>=version names; None where it is not whole."""
    name = _name(requirement)
    importlib.invalidate_caches()
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    found = importlib.util.find_spec(name)
    whole = found is not None and found.origin is not None  # one that broke off leaves a folder without code
    return version if whole else None


def is_installed(requirement: str) -> bool:
    """Whether a requirement of the form name>=version, or name==version, is met by a package that is there as a whole.

    The latter says what is installed; a newer one will do.
    """
    version = installed_version(requirement)
    return version is not None and _version(version) >= _version(re.split("[=>]=", requirement)[1])


def has_extension() -> bool:
    """Whether the PyTorch extension is loaded."""
    return importlib.util.find_spec("PyTorchUtils") is not None


def missing(heads: bool = False) -> Missing:
    """What this Slicer lacks; `heads`: to take the brain out of a head, too."""
    torch = not is_installed(TORCH)
    packages = tuple(name for name in PACKAGES if not is_installed(name))
    return Missing(torch and not has_extension(), torch, packages, heads and not is_installed(NETWORKS))


def versions() -> str:
    """One line for people: what of the packages is installed in which version."""
    parts = []
    for requirement in (TORCH, *PACKAGES, NETWORKS):
        name, version = _name(requirement), installed_version(requirement)
        if version:
            parts.append(f"{name} {version}")
        elif requirement != NETWORKS:  # which is missed where there is a head
            parts.append(_("{name}: missing").format(name=name))
    return " · ".join(parts)


def ensure(during: Callable[[], AbstractContextManager] = nullcontext, *, heads: bool = False) -> bool:
    """Install what is missing after one confirmation. False when the user declines or Slicer has to restart first.

    `heads`: also what takes the brain out of a head.

    What installs lets Slicer's window live meanwhile; `during` gives the context in which that happens.
    Raises InstallationError when something cannot be installed.
    """
    needed = missing(heads)
    if not needed:
        return True
    if slicer.app.testingEnabled():
        raise InstallationError(
            _("{names}: missing; nothing is installed while Slicer tests itself").format(names=", ".join(needed.names))
        )
    if needed.extension:
        return _offer_extension(during)
    question = _(
        "CLMorph needs these Python packages, which will be downloaded and installed into Slicer:\n\n{listed}\n\n"
        "This happens once and can take some minutes. Install them now?"
    ).format(listed="\n".join(f"  • {name}" for name in needed.names))
    if not slicer.util.confirmOkCancelDisplay(question, "CLMorph"):
        return False
    _install(needed, during)
    return True


def reinstall(during: Callable[[], AbstractContextManager] = nullcontext) -> bool:
    """Remove torch and the packages and install them anew, after one confirmation. False when the user declines.

    Raises InstallationError when something cannot be installed, or torch is in use by this Slicer.
    """
    if "torch" in sys.modules:  # its libraries are loaded: Windows does not let them be replaced
        raise InstallationError(_("PyTorch is in use in this session: restart Slicer and press Reinstall first"))
    if not has_extension():
        return _offer_extension(during)
    networks = is_installed(NETWORKS)  # who never had a head keeps doing without
    packages = (*PACKAGES, NETWORKS) if networks else PACKAGES
    question = _(
        "torch and the packages {packages} are removed, downloaded and installed anew; this takes minutes. "
        "Other extensions may use them too.\n\nReinstall them now?"
    ).format(packages=", ".join(packages))
    if not slicer.util.confirmOkCancelDisplay(question, "CLMorph"):
        return False
    with during():
        try:
            _torch_logic().uninstallTorch()
            slicer.util.pip_uninstall([_name(each) for each in packages])
        except Exception as error:  # what was not there, or is broken: what counts is what is there at the end
            logging.warning("CLMorph: %s", error)
    _install(Missing(False, True, PACKAGES, networks), during)
    return True


def _install(needed: Missing, during: Callable[[], AbstractContextManager]) -> None:
    # Slicer's process imports torch at the end of its installation, which can fail in any way (a DLL, numpy) though the
    # engine's own process can import it: what counts is what is installed.
    trouble: Exception | None = None
    with during():
        try:
            if needed.torch:
                _install_torch()
            _install_others(needed)
        except Exception as error:
            trouble = error
            logging.exception("CLMorph: a package could not be installed")
    left = missing(needed.networks)
    if left and trouble is not None and not left.torch:  # torch is whole: the others can still be had
        trouble = _try_others(left, during) or trouble
        left = missing(needed.networks)
    if not left:
        return
    if isinstance(trouble, InstallationError):
        raise trouble
    names = ", ".join(left.names)
    if left.networks and not (left.torch or left.packages):
        reason = _("{names}: could not be installed ({error}); try again, or set “Brain extraction” to “Never”")
        raise InstallationError(reason.format(names=NETWORKS, error=trouble or _("no reason was told"))) from trouble
    if trouble is not None:
        reason = _("The installation broke off ({error}): {names} missing; restart Slicer and try again")
        raise InstallationError(reason.format(error=trouble, names=names)) from trouble
    raise InstallationError(_("{names} could not be installed; restart Slicer and try again").format(names=names))


def _try_others(left: Missing, during: Callable[[], AbstractContextManager]) -> Exception | None:
    with during():
        try:
            _install_others(left)
        except Exception as error:
            return error
    return None


def _offer_extension(during: Callable[[], AbstractContextManager]) -> bool:
    manager = slicer.app.extensionsManagerModel()
    if manager.isExtensionInstalled("PyTorch"):
        raise InstallationError(
            _(
                "The PyTorch extension is installed but not loaded: "
                "restart Slicer, or enable it in the Extensions Manager"
            )
        )
    question = _(
        "CLMorph computes with PyTorch, which the extension “PyTorch” installs; that extension is missing.\n\n"
        "Install the PyTorch extension now? Slicer has to restart afterwards."
    )
    if not slicer.util.confirmOkCancelDisplay(question, "CLMorph"):
        return False
    with during():
        _install_extension(manager)
    later = _(
        "The PyTorch extension is installed.\n\n"
        "Restart Slicer now? Unsaved data is lost. With “No” you can save it first and restart Slicer later."
    )
    if slicer.util.confirmYesNoDisplay(later, "CLMorph"):
        slicer.util.restart()
    return False


def _install_extension(manager: "slicer.qSlicerExtensionsManagerModel") -> None:
    interactive = manager.interactive
    manager.interactive = False  # or it would ask the same again
    try:
        manager.installExtensionFromServer("PyTorch", False)  # true even where the download failed
    finally:
        manager.interactive = interactive
    if not manager.isExtensionInstalled("PyTorch"):
        raise InstallationError(
            _("The PyTorch extension could not be installed; install it in the Extensions Manager and restart Slicer")
        )


def _torch_logic() -> Any:
    import PyTorchUtils

    return PyTorchUtils.PyTorchUtilsLogic()


def _install_torch() -> None:
    if _torch_logic().installTorch(askConfirmation=False, torchVersionRequirement=TORCH_VERSION) is None:
        raise InstallationError(_("PyTorch was not installed; see the module “PyTorch Util” and try again"))


def _install_others(needed: Missing) -> None:
    if needed.packages:
        _install_packages(list(needed.packages))
    if needed.networks:
        slicer.util.pip_install(["--no-deps", NETWORKS])  # the same call in Slicer 5.10 and 5.12


def _install_packages(packages: list[str]) -> None:
    if importlib.util.find_spec("slicer.packaging") is not None:
        from slicer.packaging import pip_ensure

        pip_ensure(packages, prompt_install=False, requester="CLMorph")
    else:  # Slicer 5.10
        slicer.util.pip_install(packages)
