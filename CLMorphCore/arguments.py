"""Arguments of the command line as values, each refused in words; and the two verbs that make models of scans."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_THREADS = 1024
MAX_SMOOTHING = 50.0  # voxels
MAX_MINUTES = 525_600.0  # a year


def text_of(text: str) -> str:
    """Text that is not empty."""
    if not text:  # as of a shell's variable that is not set: it would mean the current folder
        raise argparse.ArgumentTypeError("nothing given, expected a path or a name")
    return text


def path(text: str) -> Path:
    """A path."""
    return Path(text_of(text))


def above_zero(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} given, expected a whole number above zero")
    return int(text)


def threads(text: str) -> int:
    """A number of threads."""
    if (count := above_zero(text)) > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text} given, expected at most {MAX_THREADS}")
    return count


def minutes(text: str) -> float:
    """A number of minutes above zero."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} given, expected a number of minutes above zero")
    return minutes


def smoothing(text: str) -> float:
    """A standard deviation in voxels."""
    with suppress(ValueError):
        if 0 <= (voxels := float(text)) <= MAX_SMOOTHING:
            return voxels
    raise argparse.ArgumentTypeError(f"{text} given, expected a number from 0 to {MAX_SMOOTHING:g}")


def pair_of_paths(text: str) -> tuple[Path, Path]:
    """IMAGE=LABELS, two paths."""
    image, equals, labels = text.partition("=")
    if not (image and equals and labels):
        raise argparse.ArgumentTypeError(f"{text} given, expected IMAGE=LABELS, two files")
    return Path(image), Path(labels)


def _scans_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        help="for the whole, of which the training is the greater part (default: 60)",
    )
    parser.add_argument(
        "--labels-for",
        action="append",
        default=[],
        type=pair_of_paths,
        metavar="IMAGE=LABELS",
        help="labels of a scan that do not lie beside it; one labelled scan is enough for an atlas",
    )
    parser.add_argument(
        "--initial",
        type=text_of,
        metavar="MODEL",
        help="start from a model's weights, given by its name, its folder or the file: it is kept where nothing better "
        "is found",
    )


def add_plan(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb plan."""
    parser = verbs.add_parser(
        "plan",
        parents=[common],
        help="what a model of your scans will be made with, and why",
        description="Looks at every scan, names what is wrong with any, and writes a plan to change and train by.",
    )
    parser.add_argument("data", metavar="DATA", type=path, help="folder of scans, CSV manifest or list of files")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="plan.toml", help="file to write")
    _scans_options(parser)


def add_train(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb train."""
    parser = verbs.add_parser(
        "train",
        parents=[common],
        help="a model from your own scans",
        description="From a folder of scans to RUN/model: plan, training without labels, atlas, tissue and quality, "
        "evaluation. The same call goes on with what was stopped. With --data: only a network, by your own settings.",
    )
    parser.add_argument(
        "scans",
        metavar="DATA",
        type=path,
        help="folder of scans, with labels beside them or without, CSV manifest or list of files; with --data "
        "CONFIG.toml, the settings of a network's training (an empty file is the paper's)",
    )
    parser.add_argument("-o", "--output", type=path, required=True, metavar="RUN", help="folder of the training")
    parser.add_argument("--plan", type=path, metavar="plan.toml", help="of clmorph plan, perhaps changed")
    _scans_options(parser)
    parser.add_argument("--label-names", type=path, metavar="CSV", help="value,name,color,terminology of the labels")
    group = parser.add_argument_group("only a network, by settings of your own")
    group.add_argument("--data", type=path, metavar="MANIFEST.csv", help="CSV with subject,image,labels,split")
    group.add_argument("--resume", action="store_true", help="go on from RUN's last checkpoint")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a setting, for instance training.steps=2000",
    )
    group.add_argument("--tensorboard", action="store_true", help="write TensorBoard's scalars too")


def add_guidance(parser: argparse.ArgumentParser, fixed: str, moving: str) -> None:
    """What is known of a pair of images before it is registered."""
    group = parser.add_argument_group("what you know")
    group.add_argument(
        "--mask",
        type=path,
        metavar="MASK",
        help=f"label image on {fixed}'s grid, above 0 where it counts, as -x of ANTs: what is 0, a lesion, a resection "
        "or what lies outside of the field of view, is kept out of alignment, network, refinement and tissue model"
        + ("; a brain mask for a whole head is --brain-extraction's" if moving != "MOVING" else ""),
    )
    if moving == "MOVING":
        group.add_argument("--moving-mask", type=path, metavar="MASK", help="the same of MOVING, on its grid")
    group.add_argument(
        "--landmarks",
        type=path,
        nargs=2,
        metavar=("FIXED", "MOVING"),
        help=f"the same points in {fixed} and in {moving} (.csv, .fcsv, .mrk.json; CSV in LPS unless its columns are "
        "r,a,s), matched by name, or by order: they start the affine alignment and pull a refinement; their distances "
        "in mm are reported",
    )
    bends = (
        "the alignment goes on from its affine part, what it bends besides becomes part of the result once"
        if moving == "MOVING"
        else "linear; the alignment goes on from it"
    )
    group.add_argument(
        "--initial",
        type=path,
        metavar="TRANSFORM",
        help=f"transform from {fixed}'s points to those of {moving} to begin with: {bends} (--affine is not improved)",
    )


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """What is evaluated: a model on subjects, or registrations."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--data", type=path, metavar="MANIFEST.csv", help="subjects that are segmented")
    group.add_argument(
        "--pairs",
        type=path,
        metavar="PAIRS.csv",
        help="registrations of any tool, one a row: fixed, moving, transform (fixed to moving points; ITK's and ANTs' "
        "files, displacement fields), and what there is of pair (a name), fixed_labels, moving_labels, "
        "fixed_landmarks, moving_landmarks, inverse, mask (of the fixed image: where Jacobian and labels count)",
    )


ORDER = (
    "Of several transforms the last one is applied to points first, as in ANTs: T1 T2 is T1(T2(p)). An image is "
    "pulled: each voxel centre p of the output grid gets what INPUT has at T(p), so T leads from the output's space "
    "to INPUT's. Points and surfaces are pushed: each point p becomes T(p), so T leads from INPUT's space to the "
    "output's. With transform.h5 of segment or register, moving images come onto the fixed one, and points of the "
    "fixed image onto the moving one; --inverse does the opposite of either."
)


class _InOrder(argparse.Action):
    """Files of --transform and --inverse-of in one list, in the order in which they are given."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        inverted = option_string == "--inverse-of"
        given = [(file, inverse != inverted) for file, inverse in values]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), *given])


def transform_file(text: str) -> tuple[Path, bool]:
    """FILE, or [FILE,0] and [FILE,1] as in ANTs: a file, and whether its inverse is meant."""
    if text.startswith("[") and text.endswith((",0]", ",1]")):
        return path(text[1:-3]), text.endswith(",1]")
    return path(text), False


def _chain_options(parser: argparse.ArgumentParser) -> None:
    for names, words in (
        (("-t", "--transform"), "transforms: of ITK, ANTs or Slicer (.h5, .tfm, .mat, .txt), or displacement fields"),
        (("--inverse-of",), "transforms whose inverses are taken, at this place of the chain; [FILE,1] of -t, too"),
    ):
        parser.add_argument(
            *names, dest="transforms", action=_InOrder, type=transform_file, nargs="+", metavar="FILE", help=words
        )
    parser.add_argument("--inverse", action="store_true", help="the inverse of the whole chain")


def add_apply(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb apply."""
    parser = verbs.add_parser(
        "apply",
        parents=[common],
        help="images, labels, points or surfaces along transforms",
        description=f"Carries an image, a label map, points or a surface along transforms. {ORDER}",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        type=path,
        help="image; points (.csv, .fcsv, .mrk.json); or surface (.vtk, .vtp, .stl, .ply, .obj)",
    )
    _chain_options(parser)
    parser.add_argument(
        "-o", "--output", type=path, required=True, metavar="OUTPUT", help="file to write, of the input's kind"
    )
    parser.add_argument(
        "--reference", type=path, metavar="GRID", help="image whose grid the output gets (default: INPUT's own grid)"
    )
    parser.add_argument("--labels", action="store_true", help="INPUT is a label map: as --interpolation labels")
    parser.add_argument(
        "--interpolation",
        choices=("linear", "cubic", "nearest", "labels"),
        help="labels: the label of the largest trilinear weight, smoother than nearest (default: linear)",
    )
    parser.add_argument(
        "--points-space",
        choices=("LPS", "RAS"),
        help="of coordinates whose file does not say (default: LPS, as in ITK, ANTs and Slicer's files)",
    )


def add_transform(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb transform."""
    parser = verbs.add_parser(
        "transform",
        parents=[common],
        help="what a transform is; compose, invert, convert",
        description="Prints what transforms are: kinds, matrix, grid, largest displacement, folding. With -o the whole "
        "chain is written. Of several the last one is applied to points first: T1 T2 is T1(T2(p)), as in ANTs.",
    )
    parser.add_argument(
        "transforms", action=_InOrder, type=transform_file, nargs="+", metavar="T", help="files; [FILE,1] is an inverse"
    )
    _chain_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="OUT",
        help=".h5: the chain; .tfm, .txt, .mat: one affine transform; .nii.gz, .nrrd, .mha: one displacement field",
    )
    parser.add_argument(
        "--reference",
        type=path,
        metavar="GRID",
        help="image on whose grid fields are sampled (default: that of the chain's first field)",
    )
