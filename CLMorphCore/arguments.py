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


def shard(text: str) -> tuple[int, int]:
    """I/N, the I-th of N shares."""
    number, slash, count = text.partition("/")
    if not slash or (share := (above_zero(number), above_zero(count)))[0] > share[1]:
        raise argparse.ArgumentTypeError(f"{text} given, expected I/N with I from 1 to N, for instance 3/20")
    return share


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


def add_morphometry(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb morphometry."""
    parser = verbs.add_parser(
        "morphometry",
        parents=[common],
        help="where scans of a group are larger or smaller",
        description="Compares the volumes of segmented scans in the space of their atlas: voxel-wise t maps of "
        "log-Jacobians, and structures, with p corrected by permutation (pip install nilearn).",
    )
    parser.add_argument(
        "table", metavar="TABLE.csv", type=path, help="a row for each scan: result (folder of segment) and covariates"
    )
    parser.add_argument("-o", "--output", type=path, required=True, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--design",
        type=text_of,
        required=True,
        metavar="'GROUP + AGE'",
        help="columns of the table: numbers, or two groups; each is tested with the others held fixed",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--total", dest="relative", action="store_false", help="volumes with the scan's size (default)")
    size.add_argument("--relative", action="store_true", help="without the affine part: what differs beside the size")
    parser.add_argument("--fwhm", type=smoothing, metavar="MM", help="smoothing (default: four voxels of the atlas)")
    parser.add_argument("--mask", type=path, help="where to test, on the atlas' grid (default: what the atlas shows)")
    parser.add_argument("--permutations", type=above_zero, default=5000, metavar="N", help="(default: 5000)")
    parser.add_argument("--tfce", action="store_true", help="p by threshold-free cluster enhancement (slow)")
    parser.add_argument("--model", type=text_of, help="name or folder (default: the model that the results name)")
    parser.add_argument("--atlas", type=path, metavar="IMAGE", help="the atlas, where it was one of your own")
    parser.add_argument("--atlas-labels", type=path, metavar="LABELS", help="its labels")
    parser.add_argument("--label-names", type=path, metavar="CSV", help="value,name,color,terminology of its labels")
    parser.set_defaults(relative=False)


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


def add_colors(parser: argparse.ArgumentParser) -> None:
    """Which colours the structures have."""
    told = "of structures; safe: people with any colour vision tell neighbours apart (default: atlas)"
    parser.add_argument("--colors", choices=("atlas", "safe"), default="atlas", help=told)


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
    "Of several transforms the first one is applied to points first, as in ANTs (Warp Affine): T1 T2 is T2(T1(p)). An "
    "image is pulled: each voxel centre p of the output grid gets what INPUT has at T(p), so T leads from the output's "
    "space to INPUT's. Points and surfaces are pushed: each point p becomes T(p), so T leads from INPUT's space to the "
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
        "chain is written. Of several the first one is applied to points first: T1 T2 is T2(T1(p)), as in ANTs.",
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


def add_cohort(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The verb cohort, without the options that it shares with segment."""
    parser = verbs.add_parser(
        "cohort",
        parents=[common],
        help="labels for many scans, with one table and one page",
        description="Segments every scan of a folder, list, manifest or BIDS data set; the same call goes on where one "
        "was stopped and tries again what failed. Ends with 3 where scans failed. As a BIDS App: BIDS OUT participant.",
    )
    parser.add_argument("data", metavar="INPUT", type=path, help="folder of scans, BIDS data set, CSV manifest or list")
    parser.add_argument(
        "bids_output", metavar="OUT", nargs="?", type=path, help="folder for the results, as of BIDS Apps"
    )
    parser.add_argument("level", metavar="participant", nargs="?", choices=("participant",), help="as of BIDS Apps")
    parser.add_argument("-o", "--output", type=path, metavar="OUT", help="folder for the results")
    parser.add_argument(
        "--model", type=text_of, help="name or folder of a model (default: none, --atlas by optimisation)"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        choices=("transform", "images", "page"),
        help="beside labels and report.json of each scan: transform, inverse and affine; warped atlas, Jacobian, "
        "uncertainty and brain mask; or the page (may be given several times)",
    )
    parser.add_argument(
        "--brain-extraction", default="auto", metavar="auto|on|off", help="as of segment (default: auto)"
    )
    bids = parser.add_argument_group("of a BIDS data set")
    bids.add_argument("--participant-label", nargs="+", default=[], metavar="LABEL", help="these participants alone")
    bids.add_argument("--session-label", nargs="+", default=[], metavar="LABEL", help="these sessions alone")
    bids.add_argument("--suffix", type=text_of, default="T1w", help="of the images (default: T1w)")
    group = parser.add_argument_group("who does it")
    group.add_argument(
        "--workers", type=above_zero, default=1, metavar="N", help="processes; the threads are shared out"
    )
    group.add_argument("--shard", type=shard, metavar="I/N", help="the I-th of N shares of the scans, for job arrays")
    group.add_argument("--scheduler", type=text_of, metavar="ADDRESS", help="of Dask, whose workers do it instead")
    return parser


def add_frames(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--frames",
        type=text_of,
        metavar="all|ed,es|N,M",
        help="of an image of several frames in time those that get labels: all, a heart's end-diastole and "
        "end-systole (ed, es), or numbers from 1; a number that comes first is the frame that the others follow, "
        "otherwise it is end-diastole, and the first one of what is no heart",
    )


def add_models(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "models",
        parents=[common],
        help="what ships, or what one model is",
        description="Lists the bundled models, and systems without weights; or tells of one model what it is for, "
        "of which scans it was made and how good it is on others.",
    )
    parser.add_argument("name", nargs="?", type=text_of, metavar="MODEL", help="a model's name or its folder")
