"""The command ``clmorph``: the one door for people, programs and Slicer.

The engine is imported inside the command functions (``commands``), so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .arguments.kinds import above_zero, path, text_of, threads
from .arguments.scans import add_cohort, add_models, add_morphometry, add_plan, add_train
from .arguments.shared import (
    add_affine,
    add_atlases,
    add_colors,
    add_effort,
    add_frames,
    add_guidance,
    add_pairs,
    add_refinement,
)
from .arguments.transforms import add_apply, add_transform
from .errors import Cancelled, CLMorphError, InputError, SomeFailed

if TYPE_CHECKING:
    from .progress import Reporter

EXIT_BAD_INPUT, EXIT_BUG, EXIT_CANCELLED, EXIT_SOME_FAILED = 2, 1, 130, 3
_NAMESAKES = (
    "affine atlas atlas_labels brain_extraction design device dicom_seg frames fusion initial label_names labels_for "
    "landmarks mask minutes model moving_labels moving_mask output plan resume rounds similarity split tensorboard "
    "threads tissue typical"
)
# How this command line calls what the library's errors call by its parameters.
FLAGS = {name: f"--{name.replace('_', '-')}" for name in _NAMESAKES.split()} | {
    "atlases": "--atlas-dir",
    "config": "CONFIG",
    "manifest": "--data",
    "margin_mm": "--margin",
    "most_similar": "--atlases",
    "optimization": "--refine",
    "overrides": "--set",
    "pairs": "--pairs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 2 (bad input), 3 (scans failed), 130 (cancelled), 1 (a bug)."""
    from .console import flush, open_standard_files

    open_standard_files()
    try:
        return _main(arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            flush(stream)


def _main(arguments: Sequence[str] | None) -> int:
    from .atomic import check_utf8, remove_temporaries
    from .console import check_working_folder, say

    try:
        options = build_parser().parse_args(arguments)
        for value in vars(options).values():
            check_utf8(value)
        check_working_folder()
    except InputError as error:
        say(f"clmorph: {error.text(FLAGS)}", sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # of --help
        return 0
    if options.threads is not None:  # before torch and ITK start their pools
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    # Threads that spin while they wait take what other programs need: twice to three times as long on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or the stacks of lost connections, of several processes
    from .progress import Reporter, stoppable

    reporter = Reporter(options.progress, options.cancel_file)

    def give_up() -> None:
        """A library's computation did not hear the signal: what was begun goes, the process then ends."""
        remove_temporaries()
        if reporter.follows:
            return
        _tell(reporter, "cancelled")
        say("clmorph: cancelled", sys.stderr)

    try:
        with stoppable(give_up) as reporter.stop:
            from . import commands

            commands.run(options, reporter)
        return 0
    except (Cancelled, KeyboardInterrupt):
        reporter.close()
        _tell(reporter, "cancelled")
        say("clmorph: cancelled", sys.stderr)
        return EXIT_CANCELLED
    except CLMorphError as error:
        reporter.close()
        message = error.text(FLAGS)
        # Whoever shows it in a window has other words for the parameters than flags.
        _tell(reporter, "error", message=message, problem=error.problem, remedy=error.remedy)
        say(f"clmorph: {message}", sys.stderr)
        return EXIT_SOME_FAILED if isinstance(error, SomeFailed) else EXIT_BAD_INPUT
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does; or has ended, before the results
        return 0 if reporter.finished or getattr(options, "output", None) is None else EXIT_CANCELLED
    except Exception as error:
        _tell(reporter, "error", message=f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise  # Python prints the traceback and exits with 1
    finally:
        reporter.close()


def _tell(reporter: Reporter, event: str, **values: str) -> None:
    """An event about the end of a run, where stdout can take one."""
    with suppress(CLMorphError, OSError):
        reporter.event(event, **values)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as any other bad input: in one line."""

    def _print_message(self, message: str, file: Any = None) -> None:
        from .console import say

        say(message.removesuffix("\n"), file or sys.stderr)  # argparse's own loses it where there is no room

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = _Parser(
        prog="clmorph",
        description="Segment 3D medical scans by registering a labelled "
        "atlas to them, with networks that were trained without labels.",
    )
    parser.add_argument("--version", action="version", version=f"clmorph {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = _common_options()
    for add in (
        _segment,
        _register,
        add_apply,
        add_transform,
        add_plan,
        add_train,
        _evaluate,
        _cohort,
        add_morphometry,
        _build_atlas,
        add_models,
        _demo,
    ):
        add(verbs, common)
    return parser


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("how it runs")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    group.add_argument("--threads", type=threads, help="CPU threads (default: all)")
    group.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="a bar, one JSON object a line on stdout, or nothing (default: bar)",
    )
    group.add_argument("--cancel-file", type=path, metavar="F", help="stop at the next step when this file appears")
    return common


def _segment(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "segment",
        parents=[common],
        help="labels for a scan",
        description="Labels for a scan, on its own grid, with transform and report.",
    )
    parser.add_argument("image", metavar="IMAGE", type=path, help="3D image file, or folder of one DICOM series")
    add_frames(parser)
    parser.add_argument(
        "--model", type=text_of, help="name or folder of a model (default: none, --atlas by optimisation)"
    )
    parser.add_argument("-o", "--output", type=path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--brain-extraction",
        type=text_of,
        default="auto",
        metavar="auto|on|off|MASK",
        help="take the brain out of a whole head first; auto: where the model needs that and the scan is not "
        "skull-stripped already; or a mask of the brain on the scan's grid (default: auto)",
    )
    parser.add_argument(
        "--dicom-seg",
        action="store_true",
        help="also write segmentation.dcm, the labels as a DICOM Segmentation of the scan's own study with coded "
        "structures; the scan has to be DICOM (pip install highdicom)",
    )
    parser.add_argument(
        "--dicom-sr",
        action="store_true",
        help="as --dicom-seg, and volumes.dcm, the volumes of its segments as a structured report (TID 1500)",
    )
    add_effort(parser)
    add_atlases(parser)
    add_colors(parser)
    add_affine(parser)
    add_guidance(parser, "IMAGE", "the atlas")
    add_refinement(parser)


def _register(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "register",
        parents=[common],
        help="transform between two images",
        description="The transform that warps MOVING onto FIXED, with its inverse.",
    )
    parser.add_argument("fixed", metavar="FIXED", type=path, help="image whose grid is the output grid")
    parser.add_argument(
        "--frames",
        type=text_of,
        metavar="all|N,M",
        help="of a FIXED of several frames in time those that MOVING is warped onto: all, or numbers from 1; MOVING is "
        "registered to the number that comes first, or the first frame, and follows its motion to the others",
    )
    parser.add_argument("moving", metavar="MOVING", type=path, help="image that is warped")
    parser.add_argument(
        "--model",
        type=text_of,
        help="name or folder of a model (its atlas is not used); with --refine it may be "
        "omitted: any organ and modality, the affine alignment is then what is refined",
    )
    parser.add_argument("-o", "--output", type=path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--moving-labels", type=path, metavar="LABELS", help="labels on MOVING's grid, to be warped along with it"
    )
    add_affine(parser)
    add_guidance(parser, "FIXED", "MOVING")
    add_refinement(parser)


def _evaluate(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "evaluate",
        parents=[common],
        help="accuracy on labelled subjects",
        description="Segments the labelled subjects of a split and measures the agreement; or, with --pairs, measures "
        "registrations that are there already.",
    )
    parser.add_argument("--model", type=text_of, help="name or folder of a model (default: as in segment)")
    add_pairs(parser)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="OUT", help="folder for the results")
    add_effort(parser)
    add_atlases(parser)
    add_refinement(parser)


def _cohort(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = add_cohort(verbs, common)
    # For the lines of failures that other processes write; what one scan needs alone is segment's.
    alone = {name: f"{FLAGS[name]} of clmorph segment" for name in ("affine", "initial", "landmarks", "mask")}
    parser.set_defaults(words=tuple((FLAGS | alone).items()))
    add_effort(parser)
    add_atlases(parser)
    add_colors(parser)
    add_refinement(parser)


def _build_atlas(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "build-atlas",
        parents=[common],
        help="an atlas from many subjects",
        description="The average image of the train split with voted labels.",
    )
    parser.add_argument("--data", type=path, required=True, metavar="MANIFEST.csv")
    parser.add_argument(
        "-o", "--output", type=path, required=True, metavar="ATLAS", help="folder, for instance MODEL/atlases/average"
    )
    parser.add_argument(
        "--model", type=text_of, help="model that registers, its name or folder (default: affine alone)"
    )
    parser.add_argument("--rounds", type=above_zero, help="rounds of registration to the average (default: 3)")
    parser.add_argument("--typical", action="store_true", help="the subject most like the average, as in the paper")
    parser.add_argument("--margin", type=above_zero, metavar="MM", help="cut the atlas to so much around its labels")
    parser.add_argument(
        "--each",
        action="store_true",
        help="every labelled subject as an atlas of its own in a folder "
        "below ATLAS, all on one grid (the model's atlas', if it has one): for label fusion",
    )
    parser.add_argument("--label-names", type=path, metavar="CSV", help="value,name,color,terminology of the labels")


def _demo(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "demo",
        parents=[common],
        help="segments a made-up subject",
        description="Makes a subject from a shipped atlas by a known random deformation, "
        "segments it and prints the true Dice.",
    )
    parser.add_argument("--model", type=text_of, default="hippocampus", help="name of a model (default: hippocampus)")
    parser.add_argument("-o", "--output", type=path, default=Path("demo"), metavar="OUT", help="(default: demo)")
    add_colors(parser)
