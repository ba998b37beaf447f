"""The pairs of each data set, and their two files: on one grid, one intensity scale, affinely aligned once for all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.alignment import align
from CLMorphCore.bundles.atlas import label_values, read_structures, save_atlas
from CLMorphCore.bundles.model import model_folder
from CLMorphCore.bundles.template import build_atlas
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid, resample
from CLMorphCore.io.images import write_image
from CLMorphCore.io.manifest import Subject, choose, read_manifest
from Training.recipes import RECIPES, prepare_of
from Training.recipes.manifest import atlas_candidates, read_labelled

ATLASES = ("typical", "average", "random")
RECIPE_OF = {"hippocampus": "hippocampus", "brain": "brain", "heart": "acdc"}
INTENSITY = 1000.0  # of the brightest voxels in the files


@dataclass(frozen=True)
class Pair:
    """Two labelled subjects; ``affine`` is false where both are one patient's and lie as they are."""

    dataset: str
    fixed: Subject
    moving: Subject
    affine: bool = True


@dataclass(frozen=True)
class Prepared:
    """What every system gets (two files on the fixed image's grid), and what their answers are measured with.

    affine  maps the files' common space to the moving subject's own, LPS, mm
    values  the labels that both subjects have and the recipe names
    """

    fixed: Path
    moving: Path
    fixed_labels: sitk.Image
    moving_labels: sitk.Image
    affine: sitk.Transform
    values: list[int]


def pairs_of(dataset: str, data: Path, split: str, atlas: str, out: Path) -> list[Pair]:
    """The pairs of a data set below ``data``: end-systole and end-diastole of a patient, or each subject and an atlas.

    ``atlas`` is typical (the training subject most like the training subjects' affine average), average (the shipped
    model's), random (another training subject for each) or the folder of an atlas. Nothing of a split but train
    enters it. Raises InputError when there is no pair.
    """
    manifest = out / f"{dataset}.csv"
    prepare_of(RECIPE_OF[dataset]).main(data, manifest)
    subjects = read_manifest(manifest)
    pairs = (
        _hearts(choose(subjects, split, labelled=True))
        if dataset == "heart"
        else _atlas_pairs(dataset, subjects, split, atlas, out)
    )
    if not pairs:
        raise InputError(f"{dataset} has no labelled subject with split {split}; choose another --split")
    return pairs


def prepare(pair: Pair, folder: Path) -> Prepared:
    """Writes fixed.nii.gz and moving.nii.gz into ``folder``; the affine is CLMorph's own, the same for all systems."""
    (fixed, fixed_labels), (moving, moving_labels) = (read_labelled(s) for s in (pair.fixed, pair.moving))
    affine = align(moving, fixed).GetInverse() if pair.affine else sitk.AffineTransform(3)
    aligned = resample(moving, Grid.of(fixed), affine)
    for image, name in ((fixed, "fixed"), (aligned, "moving")):
        write_image(scaled(image), folder / f"{name}.nii.gz")
    return Prepared(
        folder / "fixed.nii.gz",
        folder / "moving.nii.gz",
        sitk.Cast(fixed_labels, sitk.sitkInt32),
        sitk.Cast(moving_labels, sitk.sitkInt32),
        affine,
        shared_values(pair.dataset, fixed_labels, moving_labels),
    )


def scaled(image: sitk.Image) -> sitk.Image:
    """0 for the minimum, INTENSITY for the 99.9th percentile and all above it, float32: scanners' scales differ."""
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(np.percentile(values, 99.9))
    return sitk.IntensityWindowing(sitk.Cast(image, sitk.sitkFloat32), low, high, 0.0, INTENSITY)


def shared_values(dataset: str, fixed: sitk.Image, moving: sitk.Image) -> list[int]:
    """The labels that both have and, where the data set's recipe has a table of structures, that it names."""
    shared = set(label_values(fixed)) & set(label_values(moving))
    table = RECIPES / RECIPE_OF[dataset] / "labels.csv"
    named = {s.value for s in read_structures(table)} if table.exists() else shared
    if not shared & named:
        raise InputError(f"a pair of {dataset} has no label in common; expected labels of one protocol")
    return sorted(shared & named)


def _hearts(subjects: Sequence[Subject]) -> list[Pair]:
    """End-systole (fixed) and end-diastole (moving) of each patient."""
    frames = {subject.name: subject for subject in subjects}
    patients = sorted({subject.group for subject in subjects})
    return [Pair("heart", frames[f"{patient}-ES"], frames[f"{patient}-ED"], affine=False) for patient in patients]


def _atlas_pairs(dataset: str, subjects: Sequence[Subject], split: str, atlas: str, out: Path) -> list[Pair]:
    """Each subject of the split and the atlas."""
    fixed = sorted(choose(subjects, split, labelled=True), key=lambda s: s.name)
    if atlas == "random":
        train = sorted(choose(subjects, "train", labelled=True), key=lambda s: s.name)
        chance = random.Random(1)
        return [Pair(dataset, subject, chance.choice(train)) for subject in fixed]
    moving = _atlas(dataset, atlas, subjects, out)
    return [Pair(dataset, subject, moving) for subject in fixed]


def _atlas(dataset: str, atlas: str, subjects: Sequence[Subject], out: Path) -> Subject:
    """The one moving subject of all pairs."""
    if atlas == "average":
        folder = model_folder(dataset) / "atlases" / "average"
    elif atlas == "typical":
        folder = _typical(subjects, out / "atlases" / f"{dataset}-typical")
    else:
        folder = Path(atlas)
    image, labels = folder / "image.nii.gz", folder / "labels.nii.gz"
    if not image.exists() or not labels.exists():
        raise InputError(
            f"--atlas {atlas}: {folder} holds no image.nii.gz and labels.nii.gz; expected "
            f"{', '.join(ATLASES)}, or the folder of an atlas as clmorph build-atlas writes it"
        )
    return Subject(folder.name, image, labels, "train")


def _typical(subjects: Sequence[Subject], folder: Path) -> Path:
    """The most typical training subject as an atlas, chosen once."""
    if not folder.exists():
        save_atlas(folder, build_atlas(atlas_candidates(subjects), typical=True))
    return folder
