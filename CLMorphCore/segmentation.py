"""Segmenting a scan: a labelled atlas is registered to it, its labels are resampled once onto the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import SimpleITK as sitk
import torch

from .atomic import atomic_folder
from .bundles.atlas import Atlas, Structure, check_one_protocol, structures_of
from .bundles.model import Model, affine_model
from .devices import beside
from .errors import InputError, did_you_mean
from .extraction.recognise import check_upright
from .extraction.step import BRAIN, TakenOut, taken_out
from .fusion import (
    Fusion,
    check_count,
    check_method,
    fuse_matches,
    kind_of_labels,
    local_weight,
    matched,
    most_similar_atlases,
)
from .geometry import Grid, placed, resample
from .guidance.initial import known_of
from .guidance.landmarks import Guidance, Landmarks
from .guidance.masks import replaced
from .instance_optimization import InstanceOptimization
from .io.checksums import seal
from .io.dicom_seg import scan_of
from .io.dicom_sr import FILES as DICOM_FILES
from .io.dicom_sr import write_dicom
from .io.images import FLOAT32_BITS, check_sources, write_image
from .io.outputs import check_results
from .matching import AlignedScan, Match, PreparedAtlas, align_scan, match, prepare
from .metrics import volumes_ml
from .progress import Progress, Stopwatch, part, silent
from .quality.judgement import Outlook, judge, outlook
from .registration import JACOBIAN_BITS, WARPED_BITS, Registration, registration_of
from .reports.making import report_of
from .reports.report import Report
from .reports.segmentation import Pictured, segmentation_page
from .tissue.expectation import of_one, of_several
from .tissue.labels import TissueLabels, Unfit, followed

TISSUE = ("auto", "on", "off")
UNCERTAINTY_BITS = 8  # of a share that its file keeps
REPORT = "report.json"
VOLUMES = "volumes_over_time.csv"  # of a series, where one was segmented into the folder before
SIDES = ("left", "right")
# Of each side, where both are found in a whole brain and segmented by themselves.
OF_SIDES = tuple(
    f"{side}_{name}" for side in SIDES for name in ("transform.h5", "affine.h5", "inverse.h5", "report.html")
)
RESULTS = (
    "labels.nii.gz",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "uncertainty.nii.gz",
    "brain_mask.nii.gz",
    *DICOM_FILES,
    VOLUMES,
    "transform.h5",
    "affine.h5",
    "inverse.h5",
    "report.html",
    REPORT,
    *OF_SIDES,
)
# Files that not every network gives, nor every scan, or that are asked for.
OPTIONAL = ("inverse.h5", "uncertainty.nii.gz", "brain_mask.nii.gz", *DICOM_FILES, VOLUMES, *OF_SIDES)


@dataclass(frozen=True)
class Segmentation:
    """Labels on the scan's own grid, the registration behind them, and the report.

    ``labels_expected`` are what the atlas alone says, where the labels follow the scan's tissue; else None.
    ``uncertainty`` is the share of alternatives, 0…1, that say another label, or None where there is none.
    ``brain_mask`` is where the scan was looked at alone, or None where it was everywhere.
    ``volumes_ml`` are those of the labels that occur. Of several atlases ``atlas`` is the most similar one,
    ``registration`` its own, and ``structures`` are those of all.
    """

    image: sitk.Image
    atlas: Atlas
    structures: tuple[Structure, ...]
    labels: sitk.Image
    labels_expected: sitk.Image | None
    uncertainty: sitk.Image | None
    brain_mask: sitk.Image | None
    volumes_ml: dict[int, float]
    registration: Registration
    report: Report

    @property
    def unlike(self) -> str:
        """That scan and atlas are of sizes that those of one organ do not have; empty where they are not."""
        return self.registration.unlike

    def save(
        self, folder: Path, progress: Progress = silent, *, dicom_seg: bool = False, dicom_sr: bool = False
    ) -> None:
        """Writes every file of a segmentation into ``folder``, all or none.

        With ``dicom_seg`` also a segmentation in DICOM, with ``dicom_sr`` that and its volumes: InputError of a scan
        that is not DICOM. OutputError where that fails, or would replace what is read, or what is not as an earlier run
        has written it.
        """
        check_sources(folder, RESULTS, [self.image, self.atlas.image, self.atlas.labels])
        check_results(folder, RESULTS, certificates=[REPORT], optional=OPTIONAL, record=REPORT)
        scan = scan_of(self.image, folder) if dicom_seg or dicom_sr else None
        with atomic_folder(folder, optional=OPTIONAL, certificate=REPORT) as temporary:
            self._write(temporary, progress)
            if scan is not None:
                model = self.report.model.name
                write_dicom(temporary, self.labels, self.structures, scan, model=model, report=dicom_sr)
            seal(temporary, folder, RESULTS, REPORT)
            progress("report", 1.0)

    def _write(self, folder: Path, progress: Progress) -> None:
        registration, watch = self.registration, Stopwatch()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            with watch.step("writing"):
                progress("writing", 0.0)
                warped, jacobian = registration.warp(self.atlas.image), registration.jacobian_on_fixed()
                files = [
                    ("labels", self.labels, FLOAT32_BITS),
                    ("warped", warped, WARPED_BITS),
                    ("jacobian", jacobian, JACOBIAN_BITS),
                ]
                if self.brain_mask is not None:
                    files.append(("brain_mask", self.brain_mask, FLOAT32_BITS))
                if self.uncertainty is not None:
                    files.append(("uncertainty", self.uncertainty, UNCERTAINTY_BITS))
                writing = [pool.submit(registration.write, folder)]
                for name, image, bits in files:
                    path = folder / f"{name}.nii.gz"
                    writing.append(pool.submit(write_image, image, path, scan=self.image, bits=bits))
            with watch.step("report"):  # meanwhile
                progress("report", 0.5)
                (folder / "report.html").write_text(self.page(warped, jacobian), encoding="utf-8")
            with watch.step("writing"):
                for file in writing:
                    file.result()
        self.report.with_durations(watch.seconds).save(folder / REPORT)

    def page(self, warped: sitk.Image | None = None, jacobian: sitk.Image | None = None) -> str:
        """The report as HTML; with the atlas and the Jacobian on the scan's grid where they are there already."""
        registration = self.registration
        pictured = Pictured(
            image=self.image,
            labels=self.labels,
            labels_expected=self.labels_expected,
            brain_mask=self.brain_mask,
            # The nearest voxel will do for a picture, and is there four times sooner.
            labels_affine=resample(self.atlas.labels, registration.grid, registration.affine, labels=True),
            warped=warped or registration.warp(self.atlas.image),
            warped_affine=registration.warp(self.atlas.image, affine_only=True),
            jacobian=jacobian or registration.jacobian_on_fixed(),
            uncertainty=self.uncertainty,
            transform=registration.transform,
            affine=registration.affine,
        )
        return segmentation_page(pictured, self.report)


def no_labels(where: str, unlike: str = "") -> str:
    """What is wrong where nothing is labelled, with what is ``unlike`` a registration's two images."""
    said = f"no voxel of {where} got a label, the atlas' structures lie outside of it or are smaller than its voxels"
    return f"{said}{f' ({unlike})' if unlike else ''}; expected a scan of the organ, in its size, place and orientation"


def prepare_atlases(
    model: Model, atlases: Sequence[Atlas] | None = None, most_similar: int | None = None
) -> PreparedAtlas:
    """What a scan is segmented with, prepared once for many scans: the atlases given, or else the model's.

    Of the model's own it is the first, unless ``most_similar`` asks for several. Raises InputError for no atlas, for
    fewer than ``most_similar``, and for atlases that are in different spaces or of different protocols.
    """
    pool = model.atlases if atlases is None else tuple(atlases)
    if not pool:
        raise InputError(
            f"model {model.name} has no atlas",
            "give one with `atlas` and `atlas_labels`, or make one with clmorph build-atlas",
        )
    check_count(most_similar, len(pool))
    check_one_protocol(pool)
    return prepare(model, pool[:1] if atlases is None and most_similar is None else pool)


def _prepared(model: Model, atlases: PreparedAtlas | Sequence[Atlas] | None, most_similar: int | None) -> PreparedAtlas:
    """What was prepared, checked, or else prepared now."""
    if not isinstance(atlases, PreparedAtlas):
        return prepare_atlases(model, atlases, most_similar)
    check_count(most_similar, len(atlases.atlases))
    _check_labelled(atlases)
    return atlases


def _check_labelled(prepared: PreparedAtlas) -> None:
    if not prepared.atlases:
        raise InputError("an image without labels was prepared; expected atlases", "prepare them with prepare_atlases")


def segment(
    image: sitk.Image,
    model: Model | None = None,
    *,
    atlases: PreparedAtlas | Sequence[Atlas] | None = None,
    fusion: str = "similarity",
    most_similar: int | None = None,
    affine: sitk.Transform | None = None,
    optimization: InstanceOptimization | None = None,
    tissue: str = "auto",
    brain_extraction: str | sitk.Image = "auto",
    mask: sitk.Image | None = None,
    landmarks: Landmarks | None = None,
    initial: sitk.Transform | None = None,
    inverse: bool = True,
    progress: Progress = silent,
    source: str = "unnamed image",
    duration_s: Mapping[str, float] | None = None,
) -> Segmentation:
    """Segments ``image`` with the model's first atlas, or with one's own; the labels of several atlases are fused.

    ``atlases`` that are several lie in one space; ``prepare_atlases`` makes of them once what many scans need.
    ``most_similar`` takes so many of them, or of the model's; ``fusion`` is one of ``fusion.METHODS``. ``affine``,
    ``optimization``, ``mask``, ``landmarks`` and a linear ``initial`` are as in ``register``, with the atlas as the
    moving image; what the mask leaves out is labelled by the atlas alone. By default the model's answer is optimized
    where its validation scans gained by that; with 0 steps it never is. ``tissue`` is whether labels follow the scan's
    own tissue: ``on``, ``off``, or ``auto``, as was best for the model; STAPLE's never do. ``brain_extraction`` is
    ``on``, ``off``, a mask on the image's grid, or ``auto``: where the model needs a brain alone and the scan shows
    more, all else is padding. Without ``inverse`` the registration has none. ``source`` and ``duration_s``, the seconds
    of steps before, are for the report. Raises InputError without an atlas, a brain, or for what ``fuse`` cannot do.
    """
    if model is None:
        model, optimization = affine_model(), optimization or InstanceOptimization()
    check_method(fusion)
    if tissue not in TISSUE:
        raise InputError(f"unknown `tissue={tissue}`{did_you_mean(tissue, TISSUE)}")
    prepared, watch = _prepared(model, atlases, most_similar), Stopwatch(dict(duration_s or {}))
    guidance = known_of(image, affine, mask, landmarks, initial)
    brain, scan = _aligned(image, brain_extraction, model, prepared, affine, guidance, watch, progress)
    follow = model.tissue.on if tissue == "auto" else tissue == "on"
    how = fusion, most_similar, follow, optimization or model.refinement.unasked, inverse
    registration, fused, seen = _made(scan, prepared, model, *how, watch, progress)
    with watch.step("quality"):
        progress("quality", 0.95)
        structures, volumes = structures_of(fused.atlases), volumes_ml(fused.labels)
        judged = judge(seen, structures, fused.labels, fused.disagreement)
    expected = placed(fused.tissue.expected, Grid.of(image)) if fused.tissue is not None else None
    found = registration, fused, expected, structures, volumes, judged
    return Segmentation(
        image=image,
        atlas=fused.atlases[0],
        structures=structures,
        labels=fused.labels,
        labels_expected=expected,
        uncertainty=judged.uncertainty,
        brain_mask=brain.mask,
        volumes_ml=volumes,
        registration=registration,
        report=report_of(model, *found, fusion, source, watch, image, brain, landmarks),
    )


def _aligned(
    image: sitk.Image,
    extraction: str | sitk.Image,
    model: Model,
    prepared: PreparedAtlas,
    affine: sitk.Transform | None,
    known: Guidance,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[TakenOut, AlignedScan]:
    """The brain alone, where the model needs it, upright as the atlas is, and aligned: InputError where it is not."""
    needed = model.about("needs") == BRAIN
    brain = taken_out(image, extraction, needed, model.device, watch, progress)
    progress("affine", 0.0)
    off = isinstance(extraction, str) and extraction == "off"
    step = partial(progress, "affine", 0.0)
    aligned = partial(align_scan, brain.image, prepared, model, affine=affine, guidance=known, watch=watch, step=step)
    if not needed or affine is not None or known.start is not None or off:
        return brain, aligned()
    with watch.step("affine"):
        counted = brain.image if known.mask is None else replaced(brain.image, known.mask)
    with beside(partial(check_upright, counted, prepared.atlases[0].image), partial(watch.step, "affine")):
        return brain, aligned()


@dataclass(frozen=True)
class _Labelled(Fusion):
    """Labels as one atlas or several, and the scan's tissue, make them: ``tissue``, or why it was not followed."""

    tissue: TissueLabels | None = None
    note: str = ""


def _made(
    scan: AlignedScan,
    prepared: PreparedAtlas,
    model: Model,
    method: str,
    most_similar: int | None,
    follow: bool,
    optimization: InstanceOptimization | None,
    inverse: bool,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[Registration, _Labelled, Outlook]:
    """The registration with the only atlas, or the most similar one, the labels, and what the match with it tells."""
    if len(prepared.atlases) > 1:
        chosen = most_similar_atlases(scan, prepared, most_similar, watch)
        found = matched(scan, prepared, model, chosen, optimization, watch, part(progress, 0.0, 0.9))
        labelled = _labelled(found, chosen, prepared, method, follow, inverse, watch, progress)
        return *labelled, outlook(model, None, labelled[1].atlases, structures_of(labelled[1].atlases))
    progress("network", 0.04 if optimization else 0.4)
    at = part(progress, 0.08, 0.76)
    own = match(scan, prepared, model, optimization=optimization, watch=watch, progress=at)
    told = partial(outlook, model, own, prepared.atlases, structures_of(prepared.atlases))
    # On a GPU, which is busy with the one, the other would have to wait for it.
    with beside(told, partial(watch.step, "quality"), together=model.device == "cpu") as seen:
        labelled = _labelled([own], [0], prepared, method, follow, inverse, watch, progress)
    return *labelled, seen.result()


def _labelled(
    matches: Iterable[Match],
    chosen: Sequence[int],
    prepared: PreparedAtlas,
    method: str,
    follow: bool,
    inverse: bool,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[Registration, _Labelled]:
    """The registration with the only atlas, or the most similar one, and the labels."""
    several, atlases = len(prepared.atlases) > 1, tuple(prepared.atlases[n] for n in chosen)
    note = ""
    if follow and several and method == "staple":
        note = "STAPLE's labels do not follow the scan's tissue"
    elif follow:
        matches = list(matches)  # several at once: the tissues are fitted with what all of them expect
        progress("labels", 0.8)
        try:
            with watch.step("labels"):
                found = _by_tissue(matches, chosen, prepared, method)
        except Unfit as reason:
            note = f"the labels are the atlas' alone, the scan's tissue does not tell more: {reason}"
        else:
            grid = Grid.of(matches[0].scan.image)
            labels = placed(found.labels.astype(kind_of_labels(atlases)), grid)
            disagreement = placed(found.disagreement, grid) if several else None
            return _registration(matches[0], watch, inverse), _Labelled(
                labels, disagreement, atlases, matches[0], found
            )
    if several:
        fused = fuse_matches(matches, atlases, method, watch, part(progress, 0.0, 0.9))
        labelled = _Labelled(fused.labels, fused.disagreement, fused.atlases, fused.match, None, note)
        return _registration(fused.match, watch, inverse), labelled
    (own,) = matches
    registration = _registration(own, watch, inverse)
    progress("labels", 0.8)
    with watch.step("labels"):
        warped = registration.warp(atlases[0].labels, labels=True)
    return registration, _Labelled(warped, None, atlases, own, None, note)


def _registration(found: Match, watch: Stopwatch, inverse: bool) -> Registration:
    """The map of a match; without its inverse, which takes as long as all else, where nobody wants that."""
    return registration_of(found if inverse else replace(found, inverse=None), watch)


def _by_tissue(matches: Sequence[Match], chosen: Sequence[int], prepared: PreparedAtlas, method: str) -> TissueLabels:
    """The labels by what the atlases expect and the scan shows; Unfit where it tells no tissues apart."""
    tissue, settings = prepared.tissue, prepared.settings
    if tissue.votes:
        weights = [local_weight(found) for found in matches]
        if method == "majority":
            weights = [torch.ones_like(weight) for weight in weights]
        expected = of_several(matches, weights, [tissue.votes[n] for n in chosen], tissue, settings)
    else:
        expected = of_one(matches[0], tissue)
    scan = matches[0].scan
    return followed(scan.image, expected, tissue, settings, device=prepared.device, mask=scan.mask)
