"""``python -m Training.benchmarks.heads --data HEADS --brains MANIFEST.csv``: is the brain found, and left where alone?

Of each whole head the brain is extracted and held against the mask beside it where there is one: ``ch2bet`` > 0 is
ch2's brain, PATIENT/study1_CONTRAST_brainmask that of a study of Lesjak et al. Every scan of the manifest is stripped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import SimpleITK as sitk

from CLMorphCore.arguments import kinds
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.extraction.brain import extract_brain
from CLMorphCore.extraction.recognise import check_brain, check_scan, shown
from CLMorphCore.io.images import read_image, read_labels
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.progress import Stopwatch
from Training.command_line import exit_code, write_figures
from Training.provenance import provenance


def heads(data: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """Name, scan and mask, or None, of every scan in the folder that is not a mask itself."""
    for path in sorted(data.rglob("*.nii.gz")):
        if path.name == "ch2bet.nii.gz" or "brainmask" in path.name:
            continue
        mask = path.with_name(path.name.replace(".nii.gz", "_brainmask.nii.gz"))
        if path.name == "ch2.nii.gz":
            mask = path.with_name("ch2bet.nii.gz")
        yield str(path.relative_to(data)).removesuffix(".nii.gz"), path, mask if mask.exists() else None


def found_in(image: sitk.Image, mask: Path | None) -> dict[str, object]:
    """Volume, seconds and Dice of the brain in a head; or why there is none."""
    island, watch = shown(image), Stopwatch()
    entry: dict[str, object] = {"stripped": island is not None and island.is_a_brain_alone()}
    try:
        with watch.step("brain"):
            check_scan(image)
            brain = extract_brain(image)
            check_brain(image, brain)
    except InputError as refused:
        return entry | {"refused": refused.problem}
    entry |= {"ml": round(brain.volume_ml, 1), "seconds": round(watch.seconds["brain"], 1)}
    if mask is not None:
        reference = sitk.Cast(read_labels(mask) > 0, sitk.sitkUInt8)
        reference.CopyInformation(image)
        entry["dice"] = round(dice_per_label(brain.mask, reference, [1])[1], 4)
    return entry


def main(arguments: list[str] | None = None) -> int:
    """Prints what is found; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("heads", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    found: dict[str, object] = {}
    for name, path, mask in heads(options.data):
        found[name] = found_in(read_image(path), mask)
        print(name, found[name], flush=True)
    subjects = read_manifest(options.brains) if options.brains else []
    islands = {subject.name: shown(read_image(subject.image)) for subject in subjects}
    alone = [name for name, island in islands.items() if island is not None and island.is_a_brain_alone()]
    if subjects:
        found["stripped"] = {"scans": len(subjects), "left alone": len(alone)}
        print(found["stripped"])
    if options.figures is not None:
        write_figures(options.figures, found | provenance())
    else:
        print(json.dumps(provenance(), indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m Training.benchmarks.heads", description="Brains found in whole heads, and left where alone."
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="FOLDER", help="folder of the heads")
    add("--brains", type=Path, metavar="MANIFEST.csv", help="scans that are stripped already")
    add("--threads", type=kinds.threads)
    add("--figures", type=Path, metavar="JSON", help="file for what is found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
