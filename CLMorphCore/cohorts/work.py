"""What a process does with one scan of a cohort after the other: the model and its atlases are loaded once."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import SimpleITK as sitk

from .. import __version__
from ..bundles.atlas import Atlas, make_atlas, read_atlases
from ..bundles.model import Model, affine_model, load_model, model_folder, models_without_weights
from ..bundles.palette import ATLAS, colored
from ..devices import choose_device, is_out_of_memory, out_of_memory, use_threads
from ..errors import CLMorphError, FileError, InputError
from ..extraction.sides import Prepared, Sides, locator_of, prepare_sides, segment_sides, shows_the_whole
from ..instance_optimization import InstanceOptimization
from ..io.files import short
from ..io.images import read_image
from ..matching import PreparedAtlas
from ..progress import Stopwatch
from ..segmentation import Segmentation, no_labels, prepare_atlases, segment
from .results import Made, clear_failure, is_whole, save, save_failure, stamp
from .scans import Scan

# Of the settings, to the labels; of model and atlases it is the files' content that counts.
NO_DIFFERENCE = ("model", "device", "threads", "keep", "atlas", "atlas_dir", "words", "colors", "effort")


@dataclass(frozen=True)
class Settings:
    """How every scan is segmented, in values that another process, or machine, can be told.

    ``model`` is a name or an absolute folder, None for the affine alignment; ``atlas`` are image, labels and perhaps
    the table of names of an atlas of one's own, ``atlas_dir`` a folder of several. ``threads`` is of each worker, None
    as it is there. ``colors`` are one of ``COLORS``. ``words`` are what failures call the library's parameters,
    ``effort`` is what the command line calls the choice of the others.
    """

    model: str | None
    device: str = "auto"
    threads: int | None = None
    atlas: tuple[Path, Path, Path | None] | None = None
    atlas_dir: Path | None = None
    fusion: str = "similarity"
    most_similar: int | None = None
    optimization: InstanceOptimization | None = None
    tissue: str = "auto"
    brain_extraction: str = "auto"
    keep: tuple[str, ...] = ()
    colors: str = ATLAS
    words: tuple[tuple[str, str], ...] = ()
    effort: str = ""
    version: str = __version__

    @property
    def label(self) -> str:
        """What to call the model."""
        return "affine" if self.model is None else Path(self.model).name

    def text(self, error: CLMorphError) -> str:
        """A failure's line in the caller's words."""
        return error.text(dict(self.words))

    def made(self) -> Made:
        """The digest of all that the labels depend on, of the model's and the atlases' files too, and what is kept."""
        values = {k: v for k, v in asdict(self).items() if k not in NO_DIFFERENCE}
        digest = hashlib.sha256(json.dumps(values, default=str, sort_keys=True).encode())
        for path in self._files():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if self.model is None or self.model in models_without_weights():
            digest.update(str(self.model).encode())
        if self.colors != ATLAS:  # what was made before there was a choice is as good as it was
            digest.update(self.colors.encode())
        return Made(digest.hexdigest(), self.keep)

    def _files(self) -> Iterator[Path]:
        folders = [self.atlas_dir] if self.atlas_dir else []
        if self.model is not None and self.model not in models_without_weights():
            folders.append(model_folder(self.model))
        for folder in folders:
            yield from (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
        yield from (path for path in self.atlas or () if path is not None)


@dataclass(frozen=True)
class Outcome:
    """What became of a scan: nothing more to say, or why it failed."""

    name: str
    failure: str = ""


@dataclass(frozen=True)
class Loaded:
    """A model and its atlases, prepared; ``sides`` where it finds both in a whole head, once that was needed."""

    model: Model
    atlases: PreparedAtlas
    own: bool

    def segment(self, image: sitk.Image, settings: Settings, source: str, watch: Stopwatch) -> Segmentation | Sides:
        """Segments an image as ``clmorph segment`` does."""
        both = not self.own and locator_of(self.model) is not None and shows_the_whole(image)
        common = {
            "fusion": settings.fusion,
            "most_similar": settings.most_similar,
            "optimization": settings.optimization,
            "tissue": settings.tissue,
            "brain_extraction": settings.brain_extraction,
            "inverse": "transform" in settings.keep,
            "source": source,
            "duration_s": watch.seconds,
        }
        found: Segmentation | Sides
        if both:
            found = segment_sides(image, self.model, prepared=_sides(settings), **common)
        else:
            found = segment(image, self.model, atlases=self.atlases, **common)
        return replace(found, report=replace(found.report, effort=settings.effort))


def own_atlases(settings: Settings) -> list[Atlas] | None:
    """The atlases of one's own, or None for the model's."""
    if settings.atlas is not None:
        image, labels, names = settings.atlas
        return colored([make_atlas(image.name, image, labels, names)], settings.colors)
    return None if settings.atlas_dir is None else colored(read_atlases(settings.atlas_dir), settings.colors)


@lru_cache(maxsize=1)
def loaded(settings: Settings) -> Loaded:
    """The model and its atlases, ready for any number of scans: loaded at the first call in a process."""
    if settings.version != __version__:
        raise InputError(
            f"this worker has CLMorph {__version__}, the cohort was begun with {settings.version}; expected the same",
            "install it there",
        )
    use_threads(settings.threads)
    device = choose_device(settings.device)
    model = affine_model(device) if settings.model is None else load_model(settings.model, device)
    model = replace(model, atlases=tuple(colored(model.atlases, settings.colors)))
    atlases = own_atlases(settings)
    return Loaded(model, prepare_atlases(model, atlases, settings.most_similar), atlases is not None)


@lru_cache(maxsize=1)
def _sides(settings: Settings) -> Prepared:
    return prepare_sides(loaded(settings).model, settings.most_similar)


def is_finished(scan: Scan, settings: Settings, made: Made) -> bool:
    """Whether nothing is left to do for a scan: its result is there, or there can be none, which is then written."""
    if scan.missing:
        return True
    try:
        whole = is_whole(scan, made)
    except CLMorphError as error:
        save_failure(scan.place, settings.text(error), settings.label)
        return True
    if whole:
        clear_failure(scan.place)
    return whole


_NOWHERE = logging.NullHandler()
_one_at_a_time = threading.Lock()  # a worker of Dask may have several threads, and one device, and one memory


def work(scan: Scan, settings: Settings, made: Made) -> Outcome:
    """Segments a scan and saves the result; what goes wrong is this scan's failure and no error."""
    with _one_at_a_time:
        quiet()
        try:
            failure = _try(scan, settings, made)
        except CLMorphError as error:
            failure = settings.text(error)
        except Exception as error:  # of whatever library: the other scans are as good as they were
            if is_out_of_memory(error):
                failure = settings.text(out_of_memory(error, settings.device))
            else:
                failure = f"a defect of CLMorph, {type(error).__name__}: {short(error)}; please report it"
    if failure:
        save_failure(scan.place, failure, settings.label)
    return Outcome(scan.name, failure)


def _try(scan: Scan, settings: Settings, made: Made) -> str:
    if is_whole(scan, made):  # of another run since this one began
        clear_failure(scan.place)
        return ""
    watch = Stopwatch()
    ready, before = loaded(settings), stamp(scan.image)
    with watch.step("reading"):
        image = read_image(scan.image)
    found = ready.segment(image, settings, str(scan.image), watch)
    if not found.volumes_ml:
        raise FileError(no_labels("the scan", found.unlike), "check its header and the model")
    if stamp(scan.image) != before:  # or the new file would be taken for what was segmented
        raise FileError(
            f"{scan.image} was changed while it was segmented; expected a scan that stays as it is",
            "call the same command again",
        )
    save(found, scan, made)
    return ""


def quiet() -> None:
    """Has the engine's warnings in the reports alone, not on the stderr of a worker."""
    logging.getLogger("CLMorphCore").addHandler(_NOWHERE)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
