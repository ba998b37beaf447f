"""The figures in the sentences of README and site, each from the file or the constant that has it."""

from __future__ import annotations

import math
from statistics import mean

from CLMorphCore.applying import maps
from CLMorphCore.bundles.config import LossConfig
from CLMorphCore.cli import EXIT_BAD_INPUT, EXIT_CANCELLED, EXIT_SOME_FAILED
from CLMorphCore.cohorts import tables
from CLMorphCore.commands.options import BEST_STEPS
from CLMorphCore.extraction.recognise import MIN_SIDE_MM
from CLMorphCore.guidance.landmarks import REACH
from CLMorphCore.guidance.masks import MIN_COUNTED
from CLMorphCore.io import dicom_seg, images, manifest, volume
from CLMorphCore.morphometry.statistics import CONFIDENCE
from CLMorphCore.morphometry.study import DEFAULT_PERMUTATIONS
from CLMorphCore.registration import JACOBIAN_BITS, MAX_SHIFT_MM, WARPED_BITS
from CLMorphCore.segmentation import UNCERTAINTY_BITS
from CLMorphCore.series.following import FOLLOWING
from CLMorphCore.series.segmentation import MAX_CLOSING_MM
from CLMorphCore.series.volumes import ALIKE
from CLMorphCore.tissue.prepared import MAX_LABELS
from CLMorphCore.training.workflow import MIN_REFINEMENT_GAIN
from Training.benchmarks import lesions
from Training.benchmarks.series import FRAMES

from .figures import Sentences
from .sources import mean_dice, mice, once, paper_gains, short, structures, tree

FARTHEST_KM = volume.MAX_SHIFT_VOXELS / volume.SINGLE / 1e6  # at which single precision tells 1 mm voxels apart


def _rounded(bits: int) -> str:
    """By how much of its value, in percent, a number with so many binary digits is off at most."""
    return f"{100 * 2.0**-bits:.1g}"


def site() -> dict[str, Sentences]:
    """Of each page with figures, by its path in the project."""
    return {
        "README.md": Sentences((), ("1 at best", "distance that 95 % of the outlines")),
        "CONTRIBUTING.md": Sentences((), ("at most 400 lines",)),  # which Testing/CLMorphCore/test_layers.py holds
        "docs/index.md": Sentences(
            (f"{structures('brain')} structures of a brain",), ("from 0, nowhere, to 1, the same", "95 of 100 points")
        ),
        "docs/cohorts.md": _cohorts(),
        "docs/container.md": Sentences((), ("The user inside is 1000",)),  # Testing/docs/test_container.py
        "docs/contrast.md": _contrast(),
        "docs/formats.md": _formats(),
        "docs/guidance.md": _guidance(),
        "docs/heads.md": Sentences((f"larger than {MIN_SIDE_MM:.0f} mm in each direction",)),
        "docs/method.md": Sentences((f"σ = {LossConfig().sigma:g} in units", f"τ = {LossConfig().temperature:g}")),
        "docs/morphometry.md": _morphometry(),
        "docs/own-organ.md": _own_organ(),
        "docs/report.md": Sentences((), ("0 is nowhere, 1 is the same", "(1: perfectly)", "it should be 0 %")),
        "docs/resources.md": Sentences(
            (
                f"takes about {once('tissue of a brain')} of a brain's seconds, the extraction about "
                f"{once('extraction of a head')} of a head's",
            )
        ),
        "docs/results.md": _results(),
        "docs/series.md": _series(),
        "docs/slicer.md": _slicer(),
        "docs/space.md": Sentences((), ("≤ 0 is a fold", "(B, 3, D, H, W)")),
        "docs/troubles.md": Sentences(()),
        "docs/verified.md": Sentences(
            (f"{tree('null-cohorts.json')['cohorts']} null cohorts",), ("`slicer-core` 5.12.4",)
        ),
        "docs/tutorials/command-line.md": Sentences((f"with exit code {EXIT_BAD_INPUT} and",)),
        "docs/tutorials/servers.md": Sentences((f"the exit code is then {EXIT_SOME_FAILED}",), ("larger by 10 %",)),
    }


def _cohorts() -> Sentences:
    one, two = once("cohort one worker"), once("cohort two workers")
    return Sentences(
        (
            f"about {once('cohort page')} kB a scan",
            f"> {tables.MAX_ROBUST_Z} · 1.4826 MAD",
            f"The exit code is 0, or {EXIT_SOME_FAILED} where scans failed; {EXIT_BAD_INPUT} for bad input before any "
            f"work; {EXIT_CANCELLED} when cancelled",
            f"paid once for each, about {once('cohort start')} s of a core",
            f"crop: about {once('cohort scan')} s of a core",
            f"take {once('segment process')} s each",
            f"took {one} s with one worker of one thread and {two} s with two, {float(one) / float(two):.1f} times",
        )
    )


def _contrast() -> Sentences:
    gains = paper_gains().values()
    return Sentences((f"better by {min(gains):.2f} to {max(gains):.2f} of Dice",))


def _formats() -> Sentences:
    shift, bits = MAX_SHIFT_MM, (WARPED_BITS, JACOBIAN_BITS, UNCERTAINTY_BITS)
    return Sentences(
        (
            f"smaller than {volume.MIN_EXTENT_MM} mm or larger than {volume.MAX_EXTENT_MM / 1000:.0f} m",
            f"1 mm voxels beyond {FARTHEST_KM:.1f} km",
            f"more than {images.MANY_LABELS} values of which fewer than {100 * images.MIN_ALIKE:.0f} % of neighbouring",
            f"with more than {MAX_LABELS}, or whose labels lie",
            f"up to {math.degrees(math.asin(volume.MAX_STRAIGHTENED)):.0f}° (a cosine of {volume.MAX_STRAIGHTENED})",
            f"first {bits[0]}, {bits[1]} and {bits[2]} binary digits",
            f"(numbered {dicom_seg.SERIES_ABOVE} above the scan's)",
            f"The {structures('brain')} structures of a brain",
            f"about {once('dicom segmentation')} s and {once('dicom segmentation size')} MB",
            f"lies more than {shift} mm, or a hundredth",
            f"to {maps.TOLERANCE_MM:.4f} mm: of a displacement field",
            f"up to {maps.MAX_EXACT_POINTS:,} points",
            f"at most {manifest.MAX_SUBJECT_BYTES} bytes",
            "damages 2,000 files of every kind",
            f"exit code {EXIT_BAD_INPUT}; the line says",
        ),
        (
            "1 and 128 bit voxels",
            "1e30",
            "32-bit floats",
            "2³² − 1",
            "ITK 5",
            "files of MATLAB 5 and 7.3",
            "a power of two of a millimetre (1/128, less for voxels below 1 mm)",
            "(in the tests 0.02 mm off at most)",  # of Testing/CLMorphCore/applying, which hold it
            "differ by less than 0.01 mm",
            "Numbered from 1".lower(),
            "before version 4.6",
            "(undefined, missing or in preview; `defined` 0 in its tables)",
            "the digits 0 to 9",
            "SHA-256",
            "Comprehensive 3D SR of TID 1500",
            "linear 3D ones",
            "scalar 3D image",
        ),
    )


def _guidance() -> Sentences:
    return Sentences(
        (
            f"fewer than {MIN_COUNTED} voxels",
            f"a bright ball of {lesions.BALL_ML:.0f} ml",
            f"a Gaussian of 1/{1 / REACH:.0f} of that side",
        ),
        ("above 0 where it counts", "`.mrk.json`", "| refinement | weight 0", "> 0 where Jacobians"),
    )


def _morphometry() -> Sentences:
    found = tree("null-cohorts.json")
    low, high = found["nominal_95"]
    return Sentences(
        (
            f"`--permutations`, {DEFAULT_PERMUTATIONS})",
            f"effect with its {100 * CONFIDENCE:.0f} % interval",
            f"with {100 * CONFIDENCE:.0f} % intervals. At a peak",
            f"({int(once('morphometry voxels')):,} voxels in the mask) take about {once('morphometry maps')} s each "
            f"for their maps and {once('morphometry permutation')} s for each permutation",
            f"{once('morphometry permutation tfce')} s with `--tfce`",
            f"(t {once('planted peak t')}, p {once('planted peak p')})",
            f"(smallest p {float(once('unplanted smallest p')):.2f})",
            f"prints {found['false_positives']} false positives in {found['cohorts']} null cohorts (nominal "
            f"{found['level'] * found['cohorts']:.0f}; 95 of 100 such experiments have {low} to {high})",
        ),
        (
            "has 3 ln s everywhere",
            "by 2000 simulated studies",
            "In 40 real hippocampi",
            "magnified by 15 %",
            "of the same 40",
        ),
    )


def _own_organ() -> Sentences:
    return Sentences(
        (
            f"reach a Dice of {mice('one, lent', 'test')} from one labelled mouse and "
            f"{mice('eleven, as it is made', 'test')} from eleven, where Greedy reaches {mice('Greedy, one', 'test')} "
            f"and {mice('Greedy, eleven, as it is made', 'test')}",
            f"mean Dice gained {short(MIN_REFINEMENT_GAIN)} by it",
        ),
        ("mice at 0.15 mm", "counts as 0"),
    )


def _results() -> Sentences:
    return Sentences(
        (
            f"leaves about {once('native brain')} MB",
            f"to {_rounded(WARPED_BITS)} %, {_rounded(JACOBIAN_BITS)} % and {_rounded(UNCERTAINTY_BITS)} % of their",
        ),
        (
            "above 1 it grows, below 1 it shrinks, ≤ 0 it folds",
            "displacements, 0…1,",
            "TID 1500",
            "rounded to 1/128 mm",
        ),
    )


def _series() -> Sentences:
    pairs = tree("benchmarks/series.json")["pairs"].values()
    dice = {key: mean(each[key] for each in pairs) for key in ("carried", "alone")}
    off = {key: mean(abs(each[key] - each["ef_true"]) for each in pairs) for key in ("ef_carried", "ef_alone")}
    return Sentences(
        (
            f"({FOLLOWING.steps} steps at each of three resolutions",
            f"a warning above {MAX_CLOSING_MM:.0f} mm",
            f"by more than {100 * ALIKE:.0f} % of the volume",
            f"with noise, {FRAMES} frames",
            f"({dice['carried']:.3f} and {dice['alone']:.3f})",
            f"is {off['ef_carried']:.2f} off on average instead of {off['ef_alone']:.2f}",
        ),
        ("SNOMED CT 87878005", "number from 1", "4D, on the grid", "3D for one", "`labels` in 4D"),
    )


def _slicer() -> Sentences:
    crops = [short(mean_dice(f"hippocampus/results-test{which}")) for which in ("", "-best")]
    hearts = [short(mean_dice(f"heart/results-validation{which}")) for which in ("", "-best")]
    return Sentences(
        (
            f"at least {MIN_SIDE_MM:.0f} mm in each direction",
            f"adds up to {BEST_STEPS} refinement steps",
            f"(Dice {crops[0]} → {crops[1]} on test crops)",
            f"({hearts[0]} → {hearts[1]} on validation)",
        ),
        (
            "take the brain out (16 MB)",
            "above 0 where the image counts",
            "SNOMED CT 87878005",
            "layers 3 and 4",
            "on `slicer-core` 5.12.4",
            "source of 5.10 and 5.12,",
            '"Since": the first of 5.0, 5.2, 5.4, 5.6, 5.8, 5.10 and 5.12',
        ),
    )
