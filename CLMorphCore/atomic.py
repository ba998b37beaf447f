"""Writing so that a run that dies leaves nothing half-made: under a temporary name first, then renamed.

Temporary names tell whose they are: `.clmorph-h<host>-<process>.<number>-<name>`, where a host is a machine since its
start and, on Linux, a container. What another host or a living process has made is never touched.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import InputError, InUse, OutputError

MAX_NAME_BYTES = 150  # of the name in a temporary one: file systems take 255
UNFINISHED_S = 60.0  # after which a claim without content is one of a run that was killed as it made it
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS, errno.EACCES)  # file systems that know no fsync
_numbers = itertools.count()
_alive: set[Path] = set()  # temporary files and folders, and claims, of this process
_lock = threading.Lock()
_claiming = threading.Lock()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, with the same ending; renames it to ``path`` when the block succeeds.

    InputError when the place cannot be written or the disk is full; the temporary file goes in every case.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.exists()  # a name that is too long is an error here already
        remove_leftovers(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    with _registered(temporary):
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        except OSError as error:
            raise cannot_write(path, error) from None
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, *, optional: Iterable[str] = (), certificate: str = "") -> Iterator[Path]:
    """Yields an empty temporary folder, which becomes ``folder`` when the block succeeds; after a failure it is gone.

    It lies beside ``folder``, or in it where that exists: its parent may be another's, or another disk. The new files
    then replace those of the same names, also in folders of the same names; of the ``optional`` names those go that
    were not made this time, as they tell of an earlier run; all others stay. ``certificate`` names the file that goes
    first and comes last: a folder that holds it holds one run's files and not two runs', whenever this one is killed.
    """
    folder = folder.absolute()  # "." has no name
    place = folder / folder.name if folder.is_dir() else folder
    temporary = _temporary(place)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place.exists()
        remove_leftovers(place)
        temporary.mkdir()
    except OSError as error:
        raise cannot_write(folder, error) from None
    with _registered(temporary):
        try:
            yield temporary
            for path in temporary.rglob("*"):
                _sync(path)
            if place == folder:
                os.replace(temporary, folder)
            else:
                _move_into(folder, temporary, optional, certificate)
            _sync(folder.parent)
        except OSError as error:
            raise cannot_write(folder, error) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _move_into(folder: Path, temporary: Path, optional: Iterable[str], certificate: str) -> None:
    """Every file in ``temporary`` replaces what ``folder`` has of that name; ``optional`` names without new ones go.

    What else a folder holds is the user's and stays. OSError where a file and a folder have one name.
    """
    for new in temporary.rglob("*"):
        old = folder / new.relative_to(temporary)
        if old.exists() and old.is_dir() != new.is_dir():
            raise OSError(errno.EEXIST, f"{old.name} is a {'folder' if old.is_dir() else 'file'} there already")
    made = sorted(temporary.iterdir(), key=lambda new: (new.name == certificate, new.name))
    if certificate and (folder / certificate).exists():
        os.replace(folder / certificate, temporary / f".old-{certificate}")
        _sync(folder)
    for name in set(optional) - {new.relative_to(temporary).as_posix() for new in temporary.rglob("*")}:
        (folder / name).unlink(missing_ok=True)
    for new in made:
        old = folder / new.name
        if new.name == certificate:
            _sync(folder)
        if new.is_dir() and old.is_dir():
            _move_into(old, new, (), "")
        else:
            os.replace(new, old)
    _sync(folder)


def _sync(path: Path) -> None:
    """Has a file, or what a folder lists, on the disk before what follows; a system that cannot does without."""
    if path.is_symlink() or (path.is_dir() and os.name == "nt"):
        return
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    except PermissionError:  # a folder that may be written to and not listed
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Holds ``output`` for one run from its start to its end; InputError where another run holds it.

    InputError, too, unless files can be made there. The claim is a file beside or in ``output``; that of a process
    which has ended is taken over, that of another host is taken for live.
    """
    check_writable(output)
    output = Path(os.path.realpath(output))
    # A run that began when fewer of the parents were there has its claim further up.
    claims = [_claim(place, output) for place in (output, *output.parents) if place.is_dir()]
    mine = claims[0]
    with ExitStack() as held:
        with _claiming:  # or another thread takes a claim that is not registered yet for one that is left over
            for claim in claims:
                _check_free(claim, output)
            try:
                with mine.open("x", encoding="utf-8") as file:
                    json.dump({"host": host(), "node": platform.node(), "process": os.getpid()}, file)
            except FileExistsError:
                raise _in_use(output, mine, "another run") from None
            except OSError as error:
                mine.unlink(missing_ok=True)  # a full disk takes its name and not its content
                raise cannot_write(output, error) from None
            held.enter_context(_registered(mine))
        try:
            yield
        finally:
            mine.unlink(missing_ok=True)


def _claim(place: Path, output: Path) -> Path:
    """The claim in ``place`` on ``output``, of one name wherever another host or container has mounted the place."""
    below = output.relative_to(place).as_posix()
    if place.name and _is_same(place, place.with_name(place.name.swapcase())):  # a disk that does not tell cases apart
        below = unicodedata.normalize("NFC", unicodedata.normalize("NFC", below).casefold())
    return place / f".clmorph-run-{_digest(below)}"


def _check_free(claim: Path, output: Path) -> None:
    """InputError where a living run holds a claim; that of a dead one goes."""
    try:
        owner = json.loads(claim.read_text(encoding="utf-8"))
        owner_host, process, node = str(owner["host"]), int(owner["process"]), str(owner["node"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        try:
            if time.time() - claim.stat().st_mtime < UNFINISHED_S:
                raise _in_use(output, claim, "another run")
        except FileNotFoundError:
            return
        owner_host, process, node = host(), -1, ""
    if owner_host != host():
        raise _in_use(output, claim, f"process {process} on {node}")
    if process == os.getpid():
        with _lock:
            own = claim in _alive
        if own:
            raise _in_use(output, claim, "another run of this process")
    elif process > 0 and _is_running(process):
        raise _in_use(output, claim, f"process {process}")
    stale = claim.with_name(f"{claim.name}-{os.getpid()}.{next(_numbers)}")
    try:
        os.replace(claim, stale)  # of several runs that find it, one takes it away
        stale.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(output, error) from None


def _in_use(output: Path, claim: Path, who: str) -> InUse:
    return InUse(
        f"{output} is being written to by {who}; expected a folder of one run at a time",
        f"wait for it, or choose another folder; if no run is left, delete {claim}",
    )


def check_not_overwritten(output: Path, names: Iterable[str], inputs: Iterable[Path | str | None]) -> None:
    """InputError where one of the results ``names`` in ``output`` is one of the ``inputs``, by whatever name.

    Directly, through a link, by another spelling of the path or case. An input below a result that is a folder counts
    too: whole folders are replaced.
    """
    files = [Path(path) for path in inputs if path is not None]
    for name in names:
        result = output / name
        for file in files:
            if _is_same(result, file) or (
                os.path.isdir(result) and any(_is_same(result, p) for p in _real(file).parents)
            ):
                raise OutputError(
                    f"the result {result} would replace {file}, which is read; expected an output folder without it",
                    "choose another output folder",
                )


def _is_same(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):
        return _real(first) == _real(second)


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path.absolute()


def remove_leftovers(path: Path) -> None:
    """Removes the temporary files and folders beside ``path`` that killed runs with the same output have left."""
    for old in leftovers(path):
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


def leftovers(path: Path) -> Iterator[Path]:
    """The temporary files and folders beside ``path`` that killed runs with the same output have left."""
    pattern = re.compile(rf"\.clmorph-(?:h([0-9a-f]{{8}})-)?(\d+)(?:\.\d+)?-{re.escape(_shortened(path.name))}")
    for old in path.parent.iterdir():
        owner = pattern.fullmatch(old.name)
        if owner is None or (owner[1] or host()) != host() or _is_running_elsewhere(int(owner[2])):
            continue
        with _lock:
            alive = old in _alive
        if not alive:
            yield old


def remove_temporaries() -> None:
    """Removes every temporary file, folder and claim of this process: before it ends without going back."""
    with _lock:
        paths = list(_alive)
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """InputError unless files can be made in ``folder`` (or in the nearest parent that exists): before the work."""
    try:
        places = (folder.absolute(), *folder.absolute().parents)
        existing = next(p for p in places if p.exists() or p.is_symlink())
        if not existing.exists():
            raise OutputError(
                f"{existing} is a link to what does not exist; expected a folder for the output",
                "make what it points to, or choose another place",
            )
        if not existing.is_dir():
            raise InputError(f"{existing} is a file; expected a folder for the output; choose another place")
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".clmorph-"):
            pass
    except (OSError, ValueError) as error:
        raise cannot_write(folder, error) from None


def check_utf8(path: object) -> None:
    """InputError for bytes that are no UTF-8: ITK ends the process where it is given such a path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path} holds bytes that are not UTF-8; expected a name in UTF-8; rename it") from None


def cannot_write(path: Path, error: OSError | ValueError | str) -> OutputError:
    """The error of a failed write as one line."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OutputError(f"cannot write {path}: {reason}; choose a place with write permission and enough space")


def host() -> str:
    """Eight digits that tell this machine since its start, and this container, from others that share a disk."""
    global _host
    if not _host:
        known = [platform.node()]
        for place in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
            try:
                known.append(Path(place).read_text(encoding="ascii").strip())
            except (OSError, ValueError):
                continue
        with suppress(OSError):
            known.append(os.readlink("/proc/self/ns/pid"))
        _host = _digest("\n".join(known))
    return _host


_host = ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def _temporary(path: Path) -> Path:
    return path.with_name(f".clmorph-h{host()}-{os.getpid()}.{next(_numbers)}-{_shortened(path.name)}")


def _shortened(name: str) -> str:
    """The end of a name, with its ending, so that a temporary one is not too long."""
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    return _digest(name) + encoded[-MAX_NAME_BYTES:].decode(errors="ignore")


@contextmanager
def _registered(path: Path) -> Iterator[None]:
    with _lock:
        _alive.add(path)
    try:
        yield
    finally:
        with _lock:
            _alive.discard(path)


def _is_running_elsewhere(process: int) -> bool:
    """Whether another process has that number; this one's number on an old file means one of an earlier process."""
    return process != os.getpid() and _is_running(process)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # os.kill would end it there
        return _is_running_on_windows(process)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _is_running_on_windows(process: int) -> bool:
    import ctypes

    query, still_active, denied = 0x1000, 259, 5
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(query, False, process & 0xFFFFFFFF)
    if not handle:
        return ctypes.get_last_error() == denied  # type: ignore[attr-defined]
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == still_active
