"""Segmenting a scan: a labelled atlas is registered to it, its labels are resampled once onto the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from . import __version__
from .atomic import atomic_folder
from .bundles.atlas import Atlas, Structure, structures_of
from .bundles.model import Model, affine_model
from .errors import InputError, did_you_mean
from .fusion import Fusion, check_count, check_method, fuse_matches, local_weight, matched, most_similar_atlases
from .geometry import resample
from .instance_optimization import InstanceOptimization
from .io.images import FLOAT32_BITS, check_sources, warnings_of, write_image
from .io.outputs import check_results
from .matching import AlignedScan, Match, PreparedAtlas, align_scan, match, prepare
from .metrics import volumes_ml
from .progress import Progress, Stopwatch, part, silent
from .quality.judgement import Judgement, judge
from .registration import JACOBIAN_BITS, WARPED_BITS, Registration, registration_of
from .reports.report import (
    AtlasEntry,
    FusionEntry,
    ModelEntry,
    Report,
    SimilarityEntry,
    StructureEntry,
    TissueClassEntry,
    TissueEntry,
    with_total,
)
from .reports.segmentation import Pictured, segmentation_page
from .tissue.expectation import of_one, of_several
from .tissue.labels import TissueLabels, Unfit, tissue_labels
from .tissue.shares import PADDING

TISSUE = ("auto", "on", "off")
MAX_FOLDING = 1e-3  # above it a warning
UNCERTAINTY_BITS = 8  # of a share that its file keeps
REPORT = "report.json"
RESULTS = (
    "labels.nii.gz",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "uncertainty.nii.gz",
    "transform.h5",
    "affine.h5",
    "inverse.h5",
    "report.html",
    REPORT,
)
OPTIONAL = ("inverse.h5", "uncertainty.nii.gz")  # files of a segmentation that not every network gives


@dataclass(frozen=True)
class Segmentation:
    """Labels on the scan's own grid, the registration behind them, and the report.

    ``labels_expected`` are what the atlas alone says, where the labels follow the scan's tissue; else None.
    ``uncertainty`` is the share of alternatives, 0…1, that say another label, or None where there is none.
    ``volumes_ml`` are those of the labels that occur. Of several atlases ``atlas`` is the most similar one,
    ``registration`` its own, and ``structures`` are those of all.
    """

    image: sitk.Image
    atlas: Atlas
    structures: tuple[Structure, ...]
    labels: sitk.Image
    labels_expected: sitk.Image | None
    uncertainty: sitk.Image | None
    volumes_ml: dict[int, float]
    registration: Registration
    report: Report

    def save(self, folder: Path, progress: Progress = silent) -> None:
        """Writes every file of a segmentation into ``folder``, all or none.

        OutputError where that fails, or would replace what is read or what no earlier run has written.
        """
        check_sources(folder, RESULTS, [self.image, self.atlas.image, self.atlas.labels])
        check_results(folder, RESULTS, certificates=[REPORT], optional=OPTIONAL)
        with atomic_folder(folder, optional=OPTIONAL, certificate=REPORT) as temporary:
            self._write(temporary, progress)
            progress("report", 1.0)

    def _write(self, folder: Path, progress: Progress) -> None:
        registration, watch = self.registration, Stopwatch()
        with watch.step("writing"):
            progress("writing", 0.0)
            warped, jacobian = registration.warp(self.atlas.image), registration.jacobian_on_fixed()
            files = [
                ("labels", self.labels, FLOAT32_BITS),
                ("warped", warped, WARPED_BITS),
                ("jacobian", jacobian, JACOBIAN_BITS),
            ]
            if self.uncertainty is not None:
                files.append(("uncertainty", self.uncertainty, UNCERTAINTY_BITS))
            with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                writing = [pool.submit(registration.write, folder)]
                for name, image, bits in files:
                    path = folder / f"{name}.nii.gz"
                    writing.append(pool.submit(write_image, image, path, scan=self.image, bits=bits))
            for file in writing:
                file.result()
        with watch.step("report"):
            progress("report", 0.5)
            pictured = Pictured(
                image=self.image,
                labels=self.labels,
                labels_expected=self.labels_expected,
                # The nearest voxel will do for a picture, and is there four times sooner.
                labels_affine=resample(self.atlas.labels, registration.grid, registration.affine, labels=True),
                warped=warped,
                warped_affine=registration.warp(self.atlas.image, affine_only=True),
                jacobian=jacobian,
                uncertainty=self.uncertainty,
                transform=registration.transform,
                affine=registration.affine,
            )
            (folder / "report.html").write_text(segmentation_page(pictured, self.report), encoding="utf-8")
        self.report.with_durations(watch.seconds).save(folder / REPORT)


def prepare_atlases(
    model: Model, atlases: Sequence[Atlas] | None = None, most_similar: int | None = None
) -> PreparedAtlas:
    """What a scan is segmented with, prepared once for many scans: the atlases given, or else the model's.

    Of the model's own it is the first, unless ``most_similar`` asks for several. Raises InputError for no atlas, for
    fewer than ``most_similar``, and for atlases that are in different spaces.
    """
    pool = model.atlases if atlases is None else tuple(atlases)
    if not pool:
        raise InputError(
            f"model {model.name} has no atlas",
            "give one with `atlas` and `atlas_labels`, or make one with clmorph build-atlas",
        )
    check_count(most_similar, len(pool))
    return prepare(model, pool[:1] if atlases is None and most_similar is None else pool)


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
    progress: Progress = silent,
    source: str = "unnamed image",
    duration_s: Mapping[str, float] | None = None,
) -> Segmentation:
    """Segments ``image`` with the model's first atlas, or with one's own; the labels of several atlases are fused.

    ``atlases`` that are several lie in one space; ``prepare_atlases`` makes of them once what many scans need.
    ``most_similar`` takes so many of them, or of the model's; ``fusion`` is one of ``fusion.METHODS``. ``affine``
    maps the image to the atlas (LPS, mm) and takes the place of the built-in alignment; ``optimization`` goes on
    from the network's answer on the pair itself. Without a model it goes on from the affine alignment, by default as
    ``InstanceOptimization()`` says. ``tissue`` is whether the labels follow the scan's own tissue:
    ``on``, ``off``, or ``auto``, as was found best for the model; STAPLE's never do. ``source`` and ``duration_s``,
    the seconds of steps before this one, are for the report. Raises InputError if the model has no atlas and none
    is given, and for what ``fuse`` cannot do.
    """
    if model is None:
        model, optimization = affine_model(), optimization or InstanceOptimization()
    check_method(fusion)
    if tissue not in TISSUE:
        raise InputError(f"unknown `tissue={tissue}`{did_you_mean(tissue, TISSUE)}")
    if isinstance(atlases, PreparedAtlas):
        prepared = atlases
        check_count(most_similar, len(prepared.atlases))
        _check_labelled(prepared)
    else:
        prepared = prepare_atlases(model, atlases, most_similar)
    watch = Stopwatch(dict(duration_s or {}))
    progress("affine", 0.0)
    scan = align_scan(image, prepared, model, affine=affine, watch=watch, step=lambda: progress("affine", 0.0))
    follow = model.tissue.on if tissue == "auto" else tissue == "on"
    registration, fused = _labelled(scan, prepared, model, fusion, most_similar, follow, optimization, watch, progress)
    with watch.step("quality"):
        progress("quality", 0.95)
        structures = structures_of(fused.atlases)
        judgement = judge(model, fused.match, fused.atlases, structures, fused.labels, fused.disagreement)
    volumes = volumes_ml(fused.labels)
    expected = _on(image, fused.tissue.expected) if fused.tissue is not None else None
    return Segmentation(
        image=image,
        atlas=fused.atlases[0],
        structures=structures,
        labels=fused.labels,
        labels_expected=expected,
        uncertainty=judgement.uncertainty,
        volumes_ml=volumes,
        registration=registration,
        report=_report(
            model, registration, fused, expected, structures, volumes, judgement, fusion, source, watch, image
        ),
    )


@dataclass(frozen=True)
class _Labelled(Fusion):
    """Labels as one atlas or several, and the scan's tissue, make them: ``tissue``, or why it was not followed."""

    tissue: TissueLabels | None = None
    note: str = ""


def _labelled(
    scan: AlignedScan,
    prepared: PreparedAtlas,
    model: Model,
    method: str,
    most_similar: int | None,
    follow: bool,
    optimization: InstanceOptimization | None,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[Registration, _Labelled]:
    """The registration with the only atlas, or the most similar one, and the labels."""
    several = len(prepared.atlases) > 1
    chosen = most_similar_atlases(scan, prepared, most_similar, watch) if several else [0]
    atlases = tuple(prepared.atlases[n] for n in chosen)
    matches: Iterable[Match]
    if several:
        matches = matched(scan, prepared, model, chosen, optimization, watch, part(progress, 0.0, 0.9))
    else:
        progress("network", 0.04 if optimization else 0.4)
        at = part(progress, 0.08, 0.76)
        matches = [match(scan, prepared, model, optimization=optimization, watch=watch, progress=at)]
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
            labels = sitk.Cast(_on(scan.image, found.labels), atlases[0].labels.GetPixelID())
            disagreement = _on(scan.image, found.disagreement) if several else None
            return registration_of(matches[0], watch), _Labelled(labels, disagreement, atlases, matches[0], found)
    if several:
        fused = fuse_matches(matches, atlases, method, watch, part(progress, 0.0, 0.9))
        labelled = _Labelled(fused.labels, fused.disagreement, fused.atlases, fused.match, None, note)
        return registration_of(fused.match, watch), labelled
    (own,) = matches
    registration = registration_of(own, watch)
    progress("labels", 0.8)
    with watch.step("labels"):
        warped = registration.warp(atlases[0].labels, labels=True)
    return registration, _Labelled(warped, None, atlases, own, None, note)


def _by_tissue(matches: Sequence[Match], chosen: Sequence[int], prepared: PreparedAtlas, method: str) -> TissueLabels:
    """The labels by what the atlases expect and the scan shows."""
    tissue, settings = prepared.tissue, prepared.settings
    if tissue.votes:
        weights = [local_weight(found) for found in matches]
        if method == "majority":
            weights = [torch.ones_like(weight) for weight in weights]
        expected = of_several(matches, weights, [tissue.votes[n] for n in chosen], tissue, settings)
    else:
        expected = of_one(matches[0], tissue)
    image = matches[0].scan.image
    return tissue_labels(image, expected, tissue.groups, exponent=settings.exponent, device=prepared.device)


def _on(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    placed = sitk.GetImageFromArray(array)
    placed.CopyInformation(image)
    return placed


def _report(
    model: Model,
    registration: Registration,
    fused: _Labelled,
    labels_expected: sitk.Image | None,
    structures: Sequence[Structure],
    volumes: Mapping[int, float],
    judgement: Judgement,
    method: str,
    source: str,
    watch: Stopwatch,
    scan: sitk.Image,
) -> Report:
    before, after = registration.similarity
    expected = volumes_ml(labels_expected) if labels_expected is not None else None
    names = tuple(atlas.name for atlas in fused.atlases)
    return Report(
        version=__version__,
        image=source,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        model=ModelEntry(model.name, *(model.about(key) for key in ("version", "licence", "commit"))),
        atlas=AtlasEntry(names[0]),
        device=str(model.device),
        threads=torch.get_num_threads(),
        refinement_steps=registration.optimization_steps,
        structures=tuple(
            StructureEntry(
                s.value,
                s.name,
                s.color,
                s.terminology,
                round(volumes.get(s.value, 0.0), 4),
                judgement.structures[s.value].uncertainty,
                judgement.structures[s.value].expected_dice,
                None if expected is None else round(expected.get(s.value, 0.0), 4),
                judgement.structures[s.value].interval,
            )
            for s in structures
        ),
        quality=judgement.quality,
        similarity=SimilarityEntry("local normalised cross-correlation", round(before, 4), round(after, 4)),
        folding_fraction=registration.folding_fraction,
        duration_s=with_total(watch.seconds),
        warnings=(
            *_doubts(scan, fused.atlases),
            *((fused.note,) if fused.note else ()),
            *judgement.warnings,
            *_warnings(structures, volumes, registration),
        ),
        fusion=FusionEntry(method, names) if len(names) > 1 else None,
        tissue=_tissue_entry(fused, structures),
    )


def _tissue_entry(fused: _Labelled, structures: Sequence[Structure]) -> TissueEntry:
    found = fused.tissue
    if found is None:
        return TissueEntry(False, fused.note)
    known = {s.value: s.name for s in structures}
    numbers = zip(found.tissues, found.mixture.mean.tolist(), found.mixture.sd.tolist(), strict=True)
    classes = (
        TissueClassEntry(tuple(known[v] for v in labels if v in known), float(f"{mean:.5g}"), float(f"{sd:.5g}"))
        for labels, mean, sd in numbers
        if PADDING not in labels
    )
    return TissueEntry(True, "", tuple(classes))


def _doubts(scan: sitk.Image, atlases: Sequence[Atlas]) -> dict[str, None]:
    """What was said when the scan and the atlases were read, each once."""
    images = (scan, *(image for atlas in atlases for image in (atlas.image, atlas.labels)))
    return dict.fromkeys(warning for image in images for warning in warnings_of(image))


def _warnings(
    structures: Sequence[Structure], volumes: Mapping[int, float], registration: Registration
) -> Iterator[str]:
    missing = [s.name for s in structures if s.value not in volumes]
    if missing:
        yield (
            f"{len(missing)} of {len(structures)} structures lie outside of the image or are thinner than its "
            f"voxels: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    if registration.folding_fraction > MAX_FOLDING:
        yield f"{registration.folding_fraction:.2%} of the deformation folds; look at the Jacobian map"
    before, after = registration.similarity
    if after < before:
        yield "the deformation did not make the images more alike; check that the model fits the image"
