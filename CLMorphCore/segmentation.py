"""Segmenting a scan: a labelled atlas is registered to it, its labels are resampled once onto the scan's own grid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from . import __version__
from .bundles.atlas import Atlas, Structure, default_structures
from .bundles.model import Model
from .fusion import AtlasSet, choose_atlases, fuse, structures_of
from .geometry import resample
from .instance_optimization import InstanceOptimization
from .io.images import write_image
from .metrics import volumes_ml
from .progress import Progress, Stopwatch, part, silent
from .quality.judgement import judge
from .registration import Registration, register
from .reports.segmentation import segmentation_page


@dataclass(frozen=True)
class Segmentation:
    """Labels on the scan's own grid, the registration behind them, and the figures of the report.

    ``uncertainty`` is the share of second alternatives, 0…1, that say another label, or None where there is none.
    ``volumes_ml`` are those of the labels that occur. Of several atlases ``atlas`` is the most similar one,
    ``registration`` its own, and ``structures`` are those of all.
    """

    image: sitk.Image
    atlas: Atlas
    structures: tuple[Structure, ...]
    labels: sitk.Image
    uncertainty: sitk.Image | None
    volumes_ml: dict[int, float]
    registration: Registration
    report: dict[str, Any]

    def save(self, folder: Path, progress: Progress = silent) -> None:
        """Writes every file of a segmentation into ``folder``, the report last; InputError when it cannot be."""
        registration, watch = self.registration, Stopwatch()
        with watch.step("writing"):
            progress("writing", 0.0)
            images = {
                "labels": self.labels,
                "warped": registration.warp(self.atlas.image),
                "jacobian": registration.jacobian_on_fixed(),
            }
            if self.uncertainty is not None:
                images["uncertainty"] = self.uncertainty
            for name, image in images.items():
                write_image(image, folder / f"{name}.nii.gz")
            registration.save(folder)
        with watch.step("report"):
            progress("report", 0.5)
            page = segmentation_page(
                image=self.image,
                labels=self.labels,
                warped=images["warped"],
                jacobian=images["jacobian"],
                uncertainty=self.uncertainty,
                # The nearest voxel will do for a picture, and is there four times sooner.
                labels_affine=resample(self.atlas.labels, registration.grid, registration.affine, labels=True),
                warped_affine=registration.warp(self.atlas.image, affine_only=True),
                transform=registration.transform,
                affine=registration.affine,
                report=self.report,
            )
            (folder / "report.html").write_text(page, encoding="utf-8")
        duration = self.report["duration_s"] | watch.seconds
        duration["total"] = round(sum(seconds for step, seconds in duration.items() if step != "total"), 2)
        report = self.report | {"duration_s": duration}
        (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


def segment(
    image: sitk.Image,
    model: Model,
    *,
    atlases: Sequence[Atlas] | AtlasSet | None = None,
    fusion: str = "similarity",
    most_similar: int | None = None,
    affine: sitk.Transform | None = None,
    optimization: InstanceOptimization | None = None,
    progress: Progress = silent,
    about: Mapping[str, Any] | None = None,
) -> Segmentation:
    """Segments ``image`` with the model's first atlas, or with one's own; the labels of several atlases are fused.

    A supervised network gives its own classes; the atlas is then what the scan is aligned with and what names them.
    ``atlases`` that are several lie in one space (``fusion.prepare``, which a caller with many scans calls once);
    ``most_similar`` takes so many of them, or of the model's; ``fusion`` is one of ``fusion.METHODS``. ``affine`` maps
    the image to the atlas and takes the place of the built-in alignment; ``optimization`` goes on from the network's
    answer on the pair itself; ``about`` is added to the report. Raises InputError if the model has no atlas and none
    is given, and for what ``fusion`` cannot do.
    """
    chosen = choose_atlases(model, atlases, most_similar)
    watch = Stopwatch()
    if isinstance(chosen, AtlasSet):
        fused = fuse(
            image,
            model,
            chosen,
            method=fusion,
            most_similar=most_similar,
            affine=affine,
            optimization=optimization,
            progress=part(progress, 0.0, 0.9),
        )
        registration, labels, disagreement, used = fused.registration, fused.labels, fused.disagreement, fused.atlases
    else:
        registration = register(
            image,
            chosen.image,
            model,
            affine=affine,
            moving_labels=chosen.labels,
            optimization=optimization,
            progress=part(progress, 0.0, 0.8),
        )
        with watch.step("labels"):
            progress("labels", 0.8)
            labels = registration.label(chosen.labels)
            used = (chosen if registration.classes is None else _named_by(chosen, model.network.label_values[1:]),)
            disagreement = None
    structures = structures_of(used)
    volumes = volumes_ml(labels)
    with watch.step("quality"):
        progress("quality", 0.95)
        trust = judge(model, registration, used, structures, labels, disagreement)
    duration = registration.duration_s | watch.seconds
    before, after = registration.similarity
    report = {
        "version": __version__,
        "image": "unnamed image",  # the caller knows its file
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": {"name": model.name} | {key: model.about(key) for key in ("version", "licence", "commit")},
        "atlas": {"name": used[0].name},
        "labels_from": "atlas" if registration.classes is None else "network",
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "refinement_steps": registration.refinement_steps,
        "structures": [
            {
                "value": s.value,
                "name": s.name,
                "color": s.color,
                "terminology": s.terminology,
                "volume_ml": round(volumes.get(s.value, 0.0), 4),
            }
            | trust.structures[s.value]
            for s in structures
        ],
        "quality": trust.summary,
        "similarity": {
            "measure": "local normalised cross-correlation",
            "affine": round(before, 4),
            "warped": round(after, 4),
        },
        "folding_fraction": registration.folding_fraction,
        "duration_s": duration | {"total": round(sum(duration.values()), 2)},
        "warnings": [*trust.warnings, *_warnings(structures, volumes, registration)],
    }
    if len(used) > 1:
        report["fusion"] = {"method": fusion, "atlases": [atlas.name for atlas in used]}
    return Segmentation(
        image, used[0], structures, labels, trust.uncertainty, volumes, registration, report | dict(about or {})
    )


def _named_by(atlas: Atlas, values: Sequence[int]) -> Atlas:
    """The atlas with the structures of a supervised network's classes, by the atlas' names where it has them."""
    named = {s.value: s for s in atlas.structures}
    return replace(atlas, structures=tuple(named.get(s.value, s) for s in default_structures(values)))


def _warnings(
    structures: Sequence[Structure], volumes: Mapping[int, float], registration: Registration
) -> Iterator[str]:
    if registration.classes is not None:
        yield (
            "the labels are a supervised network's own, not the atlas'; the transform is the affine alignment, "
            "nothing was deformed"
        )
    missing = [s.name for s in structures if s.value not in volumes]
    if missing:
        yield (
            f"{len(missing)} of {len(structures)} structures lie outside of the image or are thinner than its "
            f"voxels: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    if registration.folding_fraction > 1e-3:
        yield f"{registration.folding_fraction:.2%} of the deformation folds; look at the Jacobian map"
    before, after = registration.similarity
    if after < before:
        yield "the deformation did not make the images more alike; check that the model fits the image"
