"""What the options of several verbs stand for, as values of the library, and how a verb says that it is done."""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import SimpleITK as sitk

from ..applying.description import folded_inverses
from ..applying.maps import Step
from ..atomic import check_not_overwritten, check_writable, claimed
from ..bundles.atlas import Atlas, Structure, make_atlas, read_atlases, same_names
from ..bundles.model import Model, affine_model, load_model, model_folder
from ..bundles.palette import ATLAS, colored
from ..console import say
from ..devices import choose_device
from ..errors import InputError, OutputError, did_you_mean
from ..extraction.step import EXTRACTION
from ..guidance.landmarks import Landmarks
from ..instance_optimization import InstanceOptimization, Millimetres
from ..io.dicom import is_dicom
from ..io.displacement_fields import read_any
from ..io.images import read_labels
from ..io.manifest import Subject
from ..io.outputs import check_results
from ..io.points import read_landmarks
from ..io.transforms import read_affine
from ..progress import Reporter

LOG = logging.getLogger(__name__)


def model(options: Namespace) -> Model:
    """The model called --model, on --device; without --model the one that leaves it at the affine alignment."""
    device = choose_device(options.device)
    found = affine_model(device) if options.model is None else load_model(options.model, device)
    return replace(found, atlases=tuple(colored(found.atlases, _colors(options))))


def _colors(options: Namespace) -> str:
    """Which colours structures have, as --colors says where a verb has it."""
    return vars(options).get("colors", ATLAS)


def own_atlases(options: Namespace) -> list[Atlas] | None:
    """The atlases that the options give, or None for the model's; InputError where there is no model either."""
    found = _own_atlases(options)
    return found and colored(found, _colors(options))


def _own_atlases(options: Namespace) -> list[Atlas] | None:
    single = (options.atlas, options.atlas_labels, options.label_names)
    if options.atlas_dir is None:
        atlas = _own_atlas(options)
        if atlas is None and options.model is None:
            raise InputError(
                "neither --model nor --atlas is given; expected a model, which has an atlas, or a labelled scan of "
                "your own, --atlas IMAGE with --atlas-labels LABELS"
            )
        return None if atlas is None else [atlas]
    if any(option is not None for option in single):
        raise InputError(
            "--atlas-dir is given with --atlas, --atlas-labels or --label-names",
            "give one atlas or a folder of several, not both",
        )
    return list(read_atlases(options.atlas_dir))


def _own_atlas(options: Namespace) -> Atlas | None:
    if options.atlas is None and options.atlas_labels is None:
        if options.label_names is not None:
            raise InputError(
                "--label-names names the labels of an atlas of your own",
                "give --atlas and --atlas-labels too, or omit it",
            )
        return None
    if options.atlas is None or options.atlas_labels is None:
        raise InputError("--atlas and --atlas-labels go together", "give both, or neither to use the model's atlas")
    atlas = make_atlas(Path(options.atlas).name, options.atlas, options.atlas_labels, options.label_names)
    warn_of_names(atlas.structures)
    return atlas


def warn_of_names(structures: Sequence[Structure]) -> None:
    """A warning for each name that several labels have."""
    for text in same_names(structures):
        LOG.warning(text)


def optimization(options: Namespace) -> InstanceOptimization | None:
    """The optimization that --refine, --similarity and --effort ask for, or None.

    None leaves it to the model, whether its validation scans gained by one; --effort fast has 0 steps. Without a model,
    where there is no network's answer to keep, --effort asks for it in any case.
    """
    steps, effort = options.refine, vars(options).get("effort")  # register has no effort
    if steps is None and options.model is None and effort == "fast":
        raise InputError(
            "--effort fast leaves it at the answer of a model's network, and no --model is given",
            "give one, or omit --effort fast to register by optimisation",
        )
    if steps is None and (effort == "best" or (effort is not None and options.model is None)):
        steps = BEST_STEPS
    lengths = (options.refine_smoothing, options.refine_step_smoothing, options.refine_window)
    change, step, window = (Millimetres(n.removesuffix("mm")) if isinstance(n, str) else n for n in lengths)
    if steps is not None:
        if options.similarity == "mind" and window is not None:
            raise InputError(
                f"--refine-window {window:g} is that of the local correlation, which --similarity mind does not use",
                "omit one of them",
            )
        similarity = options.similarity or "lncc"
        return InstanceOptimization(steps, similarity, window, smooth_step_voxels=step, smooth_map_voxels=change)
    for flag, value in (("smoothing", change), ("step-smoothing", step), ("window", window)):
        if value is not None:
            raise InputError(
                f"--refine-{flag} {value:g} is that of a refinement", "give --refine STEPS too, or omit it"
            )
    if options.similarity is not None:
        raise InputError(
            f"--similarity {options.similarity} is what a refinement maximises", "give --refine STEPS too, or omit it"
        )
    return InstanceOptimization(0) if effort == "fast" else None


def tissue(options: Namespace) -> str:
    """Whether labels follow the scan's tissue: as --tissue says, or else --effort."""
    return options.tissue or ("off" if options.effort == "fast" else "auto")


def atlas_count(options: Namespace, model: Model) -> int | None:
    """How many atlases are fused: as --atlases says; with --effort best every one of the model's."""
    own = options.atlas is not None or options.atlas_dir is not None
    if options.atlases is None and options.effort == "best" and not own and len(model.atlases) > 1:
        return len(model.atlases)
    return options.atlases


def affine(options: Namespace) -> sitk.Transform | None:
    """The transform that --affine names, the identity for "none", or None for the built-in alignment."""
    if options.affine is None:
        return None
    return sitk.AffineTransform(3) if options.affine == "none" else read_affine(options.affine)


def landmarks(options: Namespace) -> Landmarks | None:
    """The pairs of points that --landmarks names, or None; a warning for those without a partner."""
    if options.landmarks is None:
        return None
    found = read_landmarks(*options.landmarks)
    for note in found.notes():
        LOG.warning(note)
    return found


def initial(options: Namespace) -> sitk.Transform | None:
    """The transform that --initial names, or None; a warning where it folds."""
    if options.initial is None:
        return None
    transform = read_any(options.initial)
    if share := folded_inverses(Step(transform, inverse=True)):
        LOG.warning(f"--initial {options.initial} folds in {share:.2g} of its voxels, and so does what is made with it")
    return transform


def guiding_files(options: Namespace) -> list[Path | None]:
    """The files that the options of guidance name."""
    return [options.mask, vars(options).get("moving_mask"), options.initial, *(options.landmarks or ())]


def mask(file: Path | None) -> sitk.Image | None:
    """The label image of a mask, or None."""
    return None if file is None else read_labels(file)


def brain_extraction(options: Namespace) -> str | sitk.Image:
    """What --brain-extraction says: one of ``EXTRACTION``, or the mask in a file."""
    given = options.brain_extraction
    if given not in EXTRACTION and not os.path.lexists(given):
        raise InputError(
            f"`brain_extraction={given}` is neither {', '.join(EXTRACTION)} nor a file{did_you_mean(given, EXTRACTION)}"
        )
    return given if given in EXTRACTION else read_labels(given)


def brain_mask(options: Namespace) -> str | None:
    """The file of --brain-extraction, or None."""
    given = options.brain_extraction
    return None if given in EXTRACTION else given


BEST_STEPS = 50  # of --effort best
MAX_HEADER_BYTES = 1 << 16  # of a text header, where the names of other files stand
MODEL_FILES = ("weights.safetensors", "card.toml", "quality.toml", "tissue.toml")


@contextmanager
def writing(
    options: Namespace,
    results: Collection[str],
    *inputs: Path | str | None,
    certificate: str,
    optional: Collection[str] = (),
) -> Iterator[None]:
    """Holds --output for this run; InputError where another has it, or as ``check_inputs`` and ``check_results``."""
    check_inputs(options, results, *inputs)
    check_results(options.output, results, certificates=[certificate], optional=optional, record=certificate)
    with claimed(options.output):
        yield


def check_inputs(options: Namespace, results: Iterable[str], *inputs: Path | str | None) -> None:
    """InputError where --output cannot be written to, or a result in it would replace what is read.

    ``inputs`` are those of the verb beside the ones that several verbs have.
    """
    check_writable(options.output)
    given = vars(options)
    files = [*inputs, *(given.get(name) for name in ("atlas", "atlas_labels", "label_names", "affine", "cancel_file"))]
    if given.get("model"):
        with suppress(InputError):  # which comes again when it is loaded
            files += _of_model(model_folder(options.model))
    if given.get("atlas_dir"):
        files += options.atlas_dir.glob("*/*")
    check_not_overwritten(options.output, results, [file for path in files if path for file in read_along(Path(path))])


def _of_model(folder: Path) -> list[Path]:
    return [folder / name for name in MODEL_FILES] + list((folder / "atlases").glob("*/*"))


def files_of(subjects: Iterable[Subject]) -> list[Path | None]:
    """The images and labels of a manifest."""
    return [file for subject in subjects for file in (subject.image, subject.labels)]


def read_along(path: Path) -> list[Path]:
    """The files that are read with one: slices of a series, voxels that a header names or that lie beside it."""
    try:
        if path.is_dir():
            return [path, *(each for each in path.iterdir() if each.is_file() and _is_dicom(each))]
        ending = path.name.lower().removesuffix(".gz")[-4:]
        if ending in (".hdr", ".img"):
            return list(path.parent.glob(f"{glob.escape(path.name.removesuffix('.gz')[:-4])}.*"))
        if path.suffix.lower() not in (".nhdr", ".mhd", ".nrrd", ".mha") or not path.is_file():  # a pipe would wait
            return [path]
        with path.open("rb") as file:
            header = file.read(MAX_HEADER_BYTES).decode("utf-8", "replace")
        words = [
            word.strip() for line in header.splitlines() for word in (line, re.split("[:=]", line, maxsplit=1)[-1])
        ]
        return [path, *(path.parent / word for word in words if word and (path.parent / word).is_file())]
    except (OSError, ValueError):  # which comes again when it is read
        return [path]


def _is_dicom(path: Path) -> bool:
    """Whether a file of a folder is a slice; one that cannot be opened may be."""
    with suppress(OSError), path.open("rb") as file:
        return is_dicom(file.read(132))
    return True


def quoted(path: Path) -> str:
    """The path as a shell takes it for one word."""
    return f'"{path}"' if " " in str(path) else str(path)


def done(reporter: Reporter, output: Path, text: str) -> None:
    """Says where the results lie and what they are; OutputError where stdout cannot take it."""
    reporter.finished = True
    try:
        reporter("done", 1.0)
        reporter.close()
        reporter.event("done", output=str(output))
        say(f"{output}: {text}", console(reporter))
    except OutputError as error:
        raise OutputError(f"{error.problem}; the results in {output} are complete", error.remedy) from None


def console(reporter: Reporter) -> TextIO:
    """stdout, or stderr where stdout is for JSON."""
    return sys.stderr if reporter.kind == "json" else sys.stdout
