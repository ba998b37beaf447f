"""The verbs that take many scans, and the one that tells of models."""

from __future__ import annotations

import argparse

from .kinds import above_zero, minutes, pair_of_paths, path, shard, smoothing, text_of


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


def add_models(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "models",
        parents=[common],
        help="what ships, or what one model is",
        description="Lists the bundled models, and systems without weights; or tells of one model what it is for, "
        "of which scans it was made and how good it is on others.",
    )
    parser.add_argument("name", nargs="?", type=text_of, metavar="MODEL", help="a model's name or its folder")
