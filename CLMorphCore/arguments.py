"""Arguments of the command line as values, each refused in words; and the two verbs that make models of scans."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

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
