"""The verbs that carry things along transforms, and tell of them."""

from __future__ import annotations

import argparse
from typing import Any

from .kinds import path, transform_file

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
