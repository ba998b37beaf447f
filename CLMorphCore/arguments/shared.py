"""Options that several verbs have, and what is evaluated."""

from __future__ import annotations

import argparse

from .kinds import above_zero, path, smoothing, text_of, window


def add_affine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--affine",
        type=text_of,
        metavar="none|FILE",
        help="instead of the built-in affine alignment, and exactly so: none, or an "
        "ITK transform file that maps the fixed image's points to the moving image's (LPS, mm)",
    )


def add_refinement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--refine",
        type=above_zero,
        metavar="STEPS",
        help="go on from the network's answer by optimising the deformation of this pair: at most STEPS steps at each "
        "of three resolutions, fewer where nothing improves; 50 is plenty",
    )
    parser.add_argument(
        "--refine-smoothing",
        type=smoothing,
        metavar="LENGTH",
        help="of the change, in voxels or as 1.5mm (default: by noise)",
    )
    parser.add_argument(
        "--refine-step-smoothing", type=smoothing, metavar="LENGTH", help="of each step, likewise (default: by noise)"
    )
    parser.add_argument(
        "--refine-window",
        type=window,
        metavar="LENGTH",
        help="side of the local correlation's windows, an odd number of voxels or as 7mm (default: as in the model's "
        "training, or by noise)",
    )
    parser.add_argument(
        "--similarity",
        choices=("lncc", "mind"),
        help="what it maximises: local cross-correlation, or MIND for different contrasts (default: lncc)",
    )


def add_atlases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--atlas", type=path, metavar="IMAGE", help="an atlas of your own instead of the model's")
    parser.add_argument("--atlas-labels", type=path, metavar="LABELS", help="its labels, on its grid")
    parser.add_argument("--label-names", type=path, metavar="CSV", help="value,name,color,terminology of its labels")
    parser.add_argument(
        "--atlas-dir",
        type=path,
        metavar="DIR",
        help="several atlases in one space instead of the "
        "model's: what build-atlas --each writes; their labels are fused",
    )
    parser.add_argument(
        "--atlases",
        type=above_zero,
        metavar="K",
        help="fuse the labels of the K atlases, of the "
        "model or of --atlas-dir, whose local correlation with the scan is greatest after the affine "
        "alignment (default: the model's first one alone, all of --atlas-dir)",
    )
    parser.add_argument(
        "--fusion",
        choices=("majority", "similarity", "staple"),
        default="similarity",
        help="how several atlases vote: all the same, by how much each resembles the scan at a place, "
        "or by STAPLE's reliability (on brains far worse than the others; default: similarity)",
    )


def add_effort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--effort",
        choices=("fast", "balanced", "best"),
        default="balanced",
        help="fast: the network alone; balanced: and labels that follow the scan's tissue, and refinement, "
        "where the model's validation scans gained by them; best: and 50 steps of refinement, with every atlas of the "
        "model (default: balanced)",
    )
    parser.add_argument(
        "--tissue",
        choices=("auto", "on", "off"),
        help="whether labels follow the scan's own tissue, found by its grey values "
        "(default: auto, as was found best for the model)",
    )


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


def add_frames(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--frames",
        type=text_of,
        metavar="all|ed,es|N,M",
        help="of an image of several frames in time those that get labels: all, a heart's end-diastole and "
        "end-systole (ed, es), or numbers from 1; a number that comes first is the frame that the others follow, "
        "otherwise it is end-diastole, and the first one of what is no heart",
    )
