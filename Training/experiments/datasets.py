"""A data set made ready for experiments, once: labels as regions, an atlas, affine maps, volumes for training."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from CLMorphCore.alignment import align
from CLMorphCore.atomic import atomic_write, check_writable
from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.atlas import Atlas, Structure, read_atlas, save_atlas
from CLMorphCore.bundles.config import Config, from_dict, to_dict
from CLMorphCore.bundles.template import build_atlas
from CLMorphCore.errors import InputError, listed
from CLMorphCore.geometry import chain
from CLMorphCore.io.images import write_image
from CLMorphCore.io.manifest import Subject, choose, read_manifest, read_subject
from CLMorphCore.io.transforms import read_affine, write_transform
from CLMorphCore.training.batches import Dataset, Volume, load_dataset
from Training.recipes import RECIPES, prepare_of
from Training.recipes.manifest import atlas_candidates, read_labelled
from Training.recipes.regions import Region, read_regions, relabel

from .catalogue import DATASETS
from .supervised import network_of

SUBJECTS, VOLUMES = "subjects.csv", "volumes.safetensors"  # of a prepared data set
Stored = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and header of its volumes


@dataclass(frozen=True)
class Case:
    """A test pair: the atlas' labels are warped onto ``fixed``; ``affine`` maps fixed to moving (LPS, mm)."""

    subject: str
    fixed: Callable[[], tuple[sitk.Image, sitk.Image]]  # image and labels, read when asked for
    moving: Callable[[], tuple[sitk.Image, sitk.Image]]
    affine: sitk.Transform


@dataclass(frozen=True)
class Protocol:
    """All that the systems share on one data set."""

    name: str
    settings: dict[str, Any]  # the recipe's sections
    regions: dict[int, str]
    volumes: Dataset
    cases: list[Case]


def datasets_in(data: Path) -> list[str]:
    """The data sets of the paper that lie in a folder; InputError if there is none."""
    there = [name for name, one in DATASETS.items() if any(next(data.glob(marker), None) for marker in one.markers)]
    if not there:
        raise InputError(
            f"{data} holds none of the data sets {', '.join(DATASETS)}; see Training/README.md for the "
            "folders that are expected"
        )
    return there


def prepare_protocol(
    name: str, data: Path | None, cache: Path, divisor: Sequence[int], say: Callable[[str], None]
) -> Protocol:
    """Reads a data set, or what an earlier call left in ``cache``; without ``data`` a packed one, unpacked there.

    ``divisor`` (D, H, W): every system's network grid must be divisible by it. InputError where ``cache`` holds what
    was prepared of other subjects.
    """
    check_writable(cache)
    cache.mkdir(parents=True, exist_ok=True)
    settings = shared_settings(name)
    regions = read_regions(RECIPES / name / "regions.csv")
    structures = _structures(regions)
    stored = checkpoint.load(cache / VOLUMES) if (cache / VOLUMES).exists() else None
    subjects = _with_regions(name, data, cache, regions, stored) if data else read_manifest(cache / SUBJECTS)
    if settings["training"].get("moving") == "group":
        cases = list(_cases_of_groups(choose(subjects, "test", labelled=True)))
    else:
        chosen = getattr(prepare_of(name), "ATLAS", None)
        atlas = _atlas(subjects, structures, cache / "atlas", say, chosen)
        settings["data"]["reference"] = str(cache / "atlas" / "image.nii.gz")
        cases = list(
            _cases_of_atlas(
                choose(subjects, "test", labelled=True),
                atlas,
                cache,
                say,
                affine=settings["data"].get("alignment", "affine") == "affine",
            )
        )
    config = from_dict(settings)
    volumes = _volumes(stored or _prepared(config, subjects, divisor, cache / VOLUMES, say))
    return Protocol(name, settings, {s.value: s.name for s in structures}, volumes, cases)


def shared_settings(name: str) -> dict[str, Any]:
    """What all systems share on a data set, as a tree: the recipe's sections but for the network's and its losses'."""
    tree = tomllib.loads((RECIPES / name / "config.toml").read_text(encoding="utf-8"))
    shared = {section: tree[section] for section in ("data", "augment", "training")}
    return shared | {"network": {"flat_levels": DATASETS[name].flat_levels}}


def _with_regions(
    name: str, data: Path, cache: Path, regions: Sequence[Region], stored: Stored | None
) -> list[Subject]:
    """The recipe's subjects with label files that hold regions' numbers, made where they are missing."""
    with atomic_write(cache / SUBJECTS) as temporary:
        prepare_of(name).main(data, temporary)
        subjects = read_manifest(temporary)
        if stored is not None:
            _check_same(stored[1], subjects, cache)
    return [_relabelled(s, cache / "regions", regions) for s in subjects]


def _check_same(header: dict[str, Any], subjects: Sequence[Subject], cache: Path) -> None:
    """InputError where prepared volumes are of other subjects than those that the splits now have."""
    for split in ("train", "validation"):
        wanted = {s.name for s in choose(subjects, split, labelled=split == "validation")}
        if others := sorted(wanted ^ {volume["name"] for volume in header[split]}):
            raise InputError(
                f"{cache} was prepared of other subjects, the data set's {split} split differs in {listed(others)}; "
                "expected what is prepared to be of the split that the data set has now",
                f"choose another --out, or delete {cache}",
            )


def _relabelled(subject: Subject, folder: Path, regions: Sequence[Region]) -> Subject:
    if subject.labels is None:
        return subject
    path = folder / f"{subject.name}.nii.gz"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        write_image(relabel(read_labelled(subject)[1], regions), path)
    return replace(subject, labels=path)


def _structures(regions: Sequence[Region]) -> tuple[Structure, ...]:
    colours = ("#d8654f", "#4f8fd8", "#6fbf5f", "#e0b040", "#9a6fd0", "#50b8b0", "#c06090")
    return tuple(
        Structure(number, name, colours[k % len(colours)])
        for k, (number, name) in enumerate((region.number, region.name) for region in regions)
    )


def _atlas(
    subjects: Sequence[Subject],
    structures: Sequence[Structure],
    folder: Path,
    say: Callable[[str], None],
    chosen: str | None,
) -> Atlas:
    """The subject that the recipe names, or the train subject most like the affine average, as the paper chooses it."""
    if chosen is not None and not (folder / "labels.csv").exists():
        subject = next(s for s in subjects if s.name == chosen)
        image, labels = read_labelled(subject)
        save_atlas(folder, Atlas(chosen, image, labels, tuple(structures)))
    elif not (folder / "labels.csv").exists():
        candidates = atlas_candidates(subjects)
        say(f"choosing the atlas among {len(candidates)} train subjects")
        save_atlas(folder, build_atlas(candidates, structures=structures, typical=True))
    return read_atlas(folder)


def _cases_of_atlas(
    subjects: Sequence[Subject], atlas: Atlas, cache: Path, say: Callable[[str], None], *, affine: bool
) -> Iterator[Case]:
    for subject in subjects:
        path = cache / "affine" / f"{subject.name}.h5"
        if affine and not path.exists():
            say(f"aligning {subject.name}")
            to_fixed = align(atlas.image, read_subject(subject)[0])
            path.parent.mkdir(exist_ok=True)
            write_transform(chain(to_fixed.GetInverse()), path)
        transform = read_affine(path) if affine else sitk.AffineTransform(3)
        yield Case(subject.name, lambda s=subject: read_labelled(s), lambda: (atlas.image, atlas.labels), transform)


def _cases_of_groups(subjects: Sequence[Subject]) -> Iterator[Case]:
    """Each patient's first scan (end-diastole) is the atlas of the second (end-systole); no affine is needed."""
    for group in dict.fromkeys(s.group for s in subjects):
        first, *others = [s for s in subjects if s.group == group]
        for other in others:
            yield Case(
                other.name, lambda s=other: read_labelled(s), lambda s=first: read_labelled(s), sitk.AffineTransform(3)
            )


def _prepared(
    config: Config, subjects: Sequence[Subject], divisor: Sequence[int], path: Path, say: Callable[[str], None]
) -> Stored:
    """The volumes of train and validation on the network's grid, as they are now stored in ``path``."""
    say("preparing the volumes of train and validation")
    _save_volumes(path, load_dataset(config, subjects, divisor=divisor), config)
    return checkpoint.load(path)


def _volumes(stored: Stored) -> Dataset:
    """The volumes that ``_save_volumes`` has stored."""
    tensors, header = stored
    tensors = {name: tensor.long() if name.endswith("labels") else tensor.float() for name, tensor in tensors.items()}
    volumes = {
        split: [
            Volume(v["name"], tensors[f"{split}.{n}.image"], tensors.get(f"{split}.{n}.labels"), v["group"])
            for n, v in enumerate(header[split])
        ]
        for split in ("train", "validation")
    }
    return Dataset(tensors.get("reference"), **volumes)


def halved(path: Path, target: Path) -> None:
    """Copies a file of volumes with images of half precision (three digits) and labels of a byte each."""
    tensors, header = checkpoint.load(path)
    small = {n: tensor.to(torch.uint8) if n.endswith("labels") else tensor.half() for n, tensor in tensors.items()}
    checkpoint.save(target, small, header)


def _save_volumes(path: Path, data: Dataset, config: Config) -> None:
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {"config": to_dict(config)}
    if data.reference is not None:
        tensors["reference"] = data.reference
    for split in ("train", "validation"):
        header[split] = [{"name": v.name, "group": v.group} for v in getattr(data, split)]
        for n, volume in enumerate(getattr(data, split)):
            tensors[f"{split}.{n}.image"] = volume.image
            if volume.labels is not None:
                tensors[f"{split}.{n}.labels"] = volume.labels
    checkpoint.save(path, tensors, header)


def common_divisor(configs: Sequence[Config]) -> tuple[int, ...]:
    """The least (D, H, W) that every network's divisor divides."""
    divisors = [network_of(c).divisor for c in configs]
    return tuple(reduce(lambda a, b: int(np.lcm(a, b)), axis) for axis in zip(*divisors, strict=True))
