"""From the whole to its parts: a locator finds both sides of an organ, and each is segmented in a crop of its own.

A model of one side knows crops around it. On a whole brain or head another model, which its card names, finds the
places; the head's tilt is taken off, the other side mirrored, and what is found is put back where the patient has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import atomic_folder
from ..bundles.atlas import Structure
from ..bundles.model import Model, load_model
from ..errors import InputError
from ..geometry import Grid, chain, linear_parts, placed, resample
from ..instance_optimization import InstanceOptimization
from ..io.checksums import seal
from ..io.dicom_seg import scan_of
from ..io.dicom_sr import write_dicom
from ..io.images import check_sources, warnings_of, write_image
from ..io.outputs import check_results
from ..matching import PreparedAtlas
from ..metrics import volumes_ml
from ..progress import Progress, Stopwatch, part, silent
from ..quality.judgement import PASS, REJECT, REVIEW
from ..registration import Registration
from ..reports.report import QualityEntry, Report, SimilarityEntry, StructureEntry, with_total
from ..reports.segmentation import sides_page
from ..segmentation import REPORT, RESULTS, SIDES, UNCERTAINTY_BITS, Segmentation, prepare_atlases, segment
from .recognise import MIN_SIDE_MM

OPTIONAL = tuple(name for name in RESULTS if name not in ("labels.nii.gz", "report.html", REPORT))


@dataclass(frozen=True)
class Locator:
    """What a model's card says in [locator]: who finds its organ, where, and how large a crop around it has to be.

    ``structures`` are the locator's labels of the left and the right one; ``mirrored`` is the side that has to be
    mirrored to look as in the model's atlas. ``size_mm`` is along the patient's axes: right–left, front–back, up.
    """

    model: str
    structures: tuple[int, int]
    mirrored: str
    size_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Sides:
    """Labels of both sides on the scan's own grid: the left one's as in the atlas, the right one's above them.

    ``found`` are the two segmentations on their crops of the scan, in the patient's own space, and ``locator`` the one
    that found their places. ``uncertainty`` is None where a side has none.
    """

    image: sitk.Image
    locator: Segmentation
    found: dict[str, Segmentation]
    structures: tuple[Structure, ...]
    labels: sitk.Image
    uncertainty: sitk.Image | None
    volumes_ml: dict[int, float]
    report: Report

    @property
    def brain_mask(self) -> sitk.Image | None:
        """Where the locator looked alone."""
        return self.locator.brain_mask

    @property
    def unlike(self) -> str:
        """That a side and the atlas are of sizes that those of one organ do not have; empty where none is."""
        return next((side.unlike for side in self.found.values() if side.unlike), "")

    def save(
        self, folder: Path, progress: Progress = silent, *, dicom_seg: bool = False, dicom_sr: bool = False
    ) -> None:
        """Writes the labels, one report, and the transforms and the report of each side, all or none.

        ``dicom_seg`` and ``dicom_sr`` are as of ``Segmentation.save``, of the labels of both sides. OutputError where
        that fails, or would replace what is read or what no earlier run has written.
        """
        check_sources(folder, RESULTS, [self.image])
        check_results(folder, RESULTS, certificates=[REPORT], optional=OPTIONAL, record=REPORT)
        scan, watch = scan_of(self.image, folder) if dicom_seg or dicom_sr else None, Stopwatch()
        with atomic_folder(folder, optional=OPTIONAL, certificate=REPORT) as temporary:
            with watch.step("writing"):
                progress("writing", 0.0)
                write_image(self.labels, temporary / "labels.nii.gz", scan=self.image)
                if self.brain_mask is not None:
                    write_image(self.brain_mask, temporary / "brain_mask.nii.gz", scan=self.image)
                if self.uncertainty is not None:
                    path = temporary / "uncertainty.nii.gz"
                    write_image(self.uncertainty, path, scan=self.image, bits=UNCERTAINTY_BITS)
                for side, found in self.found.items():
                    found.registration.write(temporary, prefix=f"{side}_")
                if scan is not None:
                    model = self.report.model.name
                    write_dicom(temporary, self.labels, self.structures, scan, model=model, report=dicom_sr)
            with watch.step("report"):
                progress("report", 0.5)
                for side, found in self.found.items():
                    (temporary / f"{side}_report.html").write_text(found.page(), encoding="utf-8")
                page = self.page({side: f"{side}_report.html" for side in self.found})
                (temporary / "report.html").write_text(page, encoding="utf-8")
            self.report.with_durations(watch.seconds).save(temporary / REPORT)
            seal(temporary, folder, RESULTS, REPORT)
            progress("report", 1.0)

    def page(self, pages: Mapping[str, str]) -> str:
        """The report as HTML, with links to the sides' own ``pages``."""
        return sides_page(self.image, self.labels, self.brain_mask, self.report, pages)


@dataclass(frozen=True)
class Prepared:
    """What segmenting both sides needs, made once for many scans: the locator's model and atlas, and one's own."""

    whole: Model
    whole_atlas: PreparedAtlas
    atlases: PreparedAtlas


def prepare_sides(model: Model, most_similar: int | None = None) -> Prepared:
    """What ``segment_sides`` would make anew for each scan; InputError for a model without a locator."""
    whole = load_model(_locator(model).model, model.device)
    return Prepared(whole, prepare_atlases(whole), prepare_atlases(model, most_similar=most_similar))


def locator_of(model: Model) -> Locator | None:
    """What finds a model's organ in a whole brain, or None; InputError for a card that does not say it in full."""
    table = model.card.get("locator")
    if table is None:
        return None
    try:
        left, right = (int(table[side]) for side in SIDES)
        x, y, z = (float(length) for length in table["size_mm"])
        mirrored = str(table["mirrored"])
        if mirrored not in SIDES or not min(x, y, z) > 0:
            raise ValueError
        return Locator(str(table["model"]), (left, right), mirrored, (x, y, z))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"the card of model {model.name} has a [locator] that cannot be read; expected model, left, right, "
            "mirrored (left or right) and size_mm, three lengths above zero",
            "mend card.toml in its folder",
        ) from None


def _locator(model: Model) -> Locator:
    locator = locator_of(model)
    if locator is None:
        raise InputError(f"model {model.name} has no locator in its card; expected a model of both sides")
    return locator


def shows_the_whole(image: sitk.Image) -> bool:
    """Whether a scan is too large for a crop around one organ of the head: a whole brain, or a head."""
    extent = np.ptp(Grid.of(image).corners_mm() @ np.reshape(image.GetDirection(), (3, 3)), axis=0)
    return bool(extent.min() >= MIN_SIDE_MM)


def segment_sides(
    image: sitk.Image,
    model: Model,
    *,
    fusion: str = "similarity",
    most_similar: int | None = None,
    optimization: InstanceOptimization | None = None,
    tissue: str = "auto",
    brain_extraction: str | sitk.Image = "auto",
    prepared: Prepared | None = None,
    inverse: bool = True,
    mask: sitk.Image | None = None,
    progress: Progress = silent,
    source: str = "unnamed image",
    duration_s: Mapping[str, float] | None = None,
) -> Sides:
    """Segments both sides of the model's organ in a scan of the whole brain, or head.

    Parameters are as of ``segment``; the brain's extraction is that of the locator; ``prepared`` is for many scans, by
    ``prepare_sides``. Raises InputError for a model without a locator, and where that finds no side's place.
    """
    locator = _locator(model)
    watch = Stopwatch(dict(duration_s or {}))
    with watch.step("locating"):
        whole = segment(
            image,
            prepared.whole if prepared else load_model(locator.model, model.device),
            atlases=prepared.whole_atlas if prepared else None,
            tissue="off",
            brain_extraction=brain_extraction,
            inverse=False,
            mask=mask,
            progress=part(progress, 0.0, 0.6),
            source=source,
        )
    # Once, for both.
    atlases = prepared.atlases if prepared else prepare_atlases(model, most_similar=most_similar)
    found = {}
    for n, (side, structure) in enumerate(zip(SIDES, locator.structures, strict=True)):
        upright = _upright(whole.registration, mirror=side == locator.mirrored)
        crop = _crop(image, whole, structure, upright, locator, side)
        seen = segment(
            _carried(crop, upright),
            model,
            atlases=atlases,
            fusion=fusion,
            most_similar=most_similar,
            optimization=optimization,
            tissue=tissue,
            inverse=inverse,
            mask=None if mask is None else _carried(resample(mask, Grid.of(crop), labels=True), upright),
            progress=part(progress, 0.6 + 0.2 * n, 0.8 + 0.2 * n),
            source=f"{source}, {side}",
        )
        found[side] = _put_back(seen, crop, upright)
    return _both(image, whole, found, model, source, watch)


def _upright(registration: Registration, *, mirror: bool) -> sitk.AffineTransform:
    """Patient → a head that looks straight ahead, as the locator's atlas does, mirrored or not: without its scale."""
    matrix, _ = linear_parts(registration.affine)
    left, _, right = np.linalg.svd(matrix)
    rotation = np.diag([-1.0 if mirror else 1.0, 1.0, 1.0]) @ left @ right
    return sitk.AffineTransform(rotation.ravel().tolist(), (0.0, 0.0, 0.0))


def _crop(
    image: sitk.Image, whole: Segmentation, structure: int, upright: sitk.Transform, locator: Locator, side: str
) -> sitk.Image:
    """The scan around a structure: InputError where the locator did not find it."""
    inside = np.argwhere(sitk.GetArrayViewFromImage(whole.labels) == structure)
    if not len(inside):
        raise InputError(
            f"the {side} side was not found: model {locator.model} sees no structure {structure} in the scan; "
            "expected a whole brain, or a head",
            "look at what it makes of the scan, or give a crop around one side",
        )
    grid, (rotation, _) = Grid.of(image), linear_parts(upright)
    points = grid.points_mm(inside) @ rotation.T
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    signs = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    corners = (centre + signs * locator.size_mm) @ rotation  # the inverse of a rotation is its transpose
    voxels = np.array([image.TransformPhysicalPointToContinuousIndex(corner) for corner in corners.tolist()])
    first = np.clip(np.floor(voxels.min(axis=0)), 0, None).astype(int)
    last = np.minimum(np.ceil(voxels.max(axis=0)) + 1, grid.size).astype(int)
    return image[tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))]


def _carried(image: sitk.Image, motion: sitk.AffineTransform) -> sitk.Image:
    """The same voxels where a rotation, or a mirroring, carries them."""
    carried = sitk.Image(image)
    matrix, offset = linear_parts(motion)
    carried.SetDirection((matrix @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    carried.SetOrigin((matrix @ image.GetOrigin() + offset).tolist())
    return carried


def _put_back(found: Segmentation, crop: sitk.Image, upright: sitk.AffineTransform) -> Segmentation:
    """A segmentation of a carried crop in the patient's own space: T ∘ W in place of T, W⁻¹ after T⁻¹."""
    registration, back = found.registration, upright.GetInverse()
    matrix, offset = linear_parts(chain(registration.affine, upright))

    def in_place(image: sitk.Image | None) -> sitk.Image | None:
        if image is None:
            return None
        there = sitk.Image(image)
        there.CopyInformation(crop)
        return there

    own = replace(
        registration,
        transform=chain(registration.transform, upright),
        inverse=None if registration.inverse is None else chain(back, registration.inverse),
        affine=sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist()),
        grid=Grid.of(crop),
    )
    labels = in_place(found.labels)
    assert labels is not None
    return replace(
        found,
        image=crop,
        labels=labels,
        labels_expected=in_place(found.labels_expected),
        uncertainty=in_place(found.uncertainty),
        registration=own,
    )


def _both(
    image: sitk.Image,
    whole: Segmentation,
    found: Mapping[str, Segmentation],
    model: Model,
    source: str,
    watch: Stopwatch,
) -> Sides:
    above = max(s.value for one in found.values() for s in one.structures)
    structures, entries = [], []
    for n, (side, one) in enumerate(found.items()):
        for s, entry in zip(one.structures, one.report.structures, strict=True):
            name = f"{side.capitalize()} {s.name[:1].lower()}{s.name[1:]}"
            structures.append(replace(s, value=s.value + n * above, name=name))
            entries.append(replace(entry, value=s.value + n * above, name=name))
    parts = [(one.labels, n * above) for n, one in enumerate(found.values())]
    labels = _pasted(image, parts, np.uint8 if 2 * above < 256 else np.int32)
    maps = [one.uncertainty for one in found.values()]
    known = [(m, 0) for m in maps if m is not None]
    uncertainty = _pasted(image, known, np.float32) if len(known) == len(maps) else None
    return Sides(
        image=image,
        locator=whole,
        found=dict(found),
        structures=tuple(structures),
        labels=labels,
        uncertainty=uncertainty,
        volumes_ml=volumes_ml(labels),
        report=_report(whole, found, entries, source, watch),
    )


def _pasted(image: sitk.Image, parts: Sequence[tuple[sitk.Image, int]], kind: type[np.number]) -> sitk.Image:
    """Maps of parts of a scan on the whole of it, 0 elsewhere; what is above 0 in a part is raised by its number."""
    values = np.zeros(Grid.of(image).shape, kind)
    for one, number in parts:
        x, y, z = image.TransformPhysicalPointToIndex(one.GetOrigin())
        own = sitk.GetArrayViewFromImage(one)
        depth, height, width = own.shape
        there = values[z : z + depth, y : y + height, x : x + width]
        there[own > 0] = own[own > 0] + number
    return placed(values, Grid.of(image))


def _report(
    whole: Segmentation,
    found: Mapping[str, Segmentation],
    entries: Sequence[StructureEntry],
    source: str,
    watch: Stopwatch,
) -> Report:
    """One report of both sides, each number the worse one's; the worst of three verdicts counts."""
    reports = {side: one.report for side, one in found.items()}
    first = reports[SIDES[0]]
    named = {f"model {whole.report.model.name}, which finds the places": whole.report, **reports}
    verdicts = {r.quality.verdict for r in named.values()}
    worst = next((v for v in (REJECT, REVIEW, PASS) if v in verdicts), "")
    reason = "; ".join(f"{name}: {r.quality.reason}" for name, r in named.items() if r.quality.verdict == worst != PASS)
    expected = [r.quality.expected_dice for r in reports.values()]
    scores = [r.quality.outlier_score for r in reports.values()]
    seconds = dict(watch.seconds)
    for r in reports.values():
        for step, duration in r.duration_s.items():
            if step != "total":
                seconds[step] = seconds.get(step, 0.0) + duration
    return replace(
        first,
        image=source,
        structures=tuple(entries),
        quality=QualityEntry(
            None if None in expected else round(float(np.mean([e for e in expected if e is not None])), 4),
            None if None in scores else max(s for s in scores if s is not None),
            first.quality.note,
            worst,
            reason,
        ),
        similarity=SimilarityEntry(
            first.similarity.measure,
            min(r.similarity.affine or 0.0 for r in reports.values()),
            min(r.similarity.warped or 0.0 for r in reports.values()),
        ),
        folding_fraction=max(r.folding_fraction for r in reports.values()),
        duration_s=with_total(seconds),
        warnings=(
            *warnings_of(whole.image),
            *(warnings_of(whole.brain_mask) if whole.brain_mask is not None else ()),
            *([f"the places may be wrong: {whole.report.quality.reason}"] if whole.report.quality.reason else []),
            *(f"{side}: {w}" for side, r in reports.items() for w in r.warnings),
        ),
        brain=whole.report.brain,
        locator=f"{whole.report.model.name} {whole.report.model.version}".strip(),
    )
