"""Building an atlas from many subjects: an average template with voted labels, or the most typical subject."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, chain, placed, resample, resample_labels, to_image, to_tensor
from ..instance_optimization import InstanceOptimization
from ..io.images import read_image
from ..io.manifest import Subject, choose, read_subject
from ..io.outputs import check_distinct
from ..matching import first_alignment
from ..network_input import normalise
from ..progress import Progress, part, silent
from ..registration import register
from ..tissue.shares import shares_of, single_vote
from .atlas import Atlas, Structure, default_structures, label_values
from .model import Model

LOG = logging.getLogger(__name__)
AFFINE_ROUNDS = 2
ROUNDS = 3  # of registration to the average, after the affine ones
TEMPLATE_MAXIMUM = 4000  # of the stored template: 12 bits, as scanners write
# Of one voter; divided by √voters. 0.6 for nine brains was best among 0 to 1.6 on the brain recipe's validation
# subjects, and none for 180 hippocampi on theirs. One alone has nobody to agree with: its labels are taken as they are.
VOTE_SMOOTHING_VOXELS = 1.8


def build_atlas(
    subjects: Sequence[Subject],
    *,
    model: Model | None = None,
    rounds: int = ROUNDS,
    structures: Sequence[Structure] | None = None,
    typical: bool = False,
    name: str = "average",
    margin_mm: float | None = None,
    optimization: InstanceOptimization | None = None,
    progress: Progress = silent,
) -> Atlas:
    """An atlas from the train split: the average of all images and the vote of all labels, each warped once.

    Without a model the subjects are aligned affinely only (a reference to train on); with one, ``rounds`` rounds of
    registration to the average so far follow, each undoing the mean deformation, so that the template's shape is the
    mean shape and no subject's (Guimond et al., 2000). With ``typical`` the subject that correlates best with the
    average is the atlas, as in the paper. ``margin_mm`` cuts the atlas to its labels and so much around them;
    ``optimization`` refines the model's maps that carry the votes. Raises InputError without labelled subjects.
    """
    train, images, labels = _read(subjects, structures, part(progress, 0.0, 0.05))
    template, maps = _template(images, model, rounds, part(progress, 0.05, 0.9))
    progress("labels", 0.9)
    if typical:
        labelled = [(n, of) for n, of in enumerate(labels) if of is not None]
        best, own = max(labelled, key=lambda each: _agreement(template, images[each[0]], maps[each[0]]))
        return _atlas(train[best].name, *_cut(images[best], own, margin_mm), structures)
    labelled = [(image, of, to) for image, of, to in zip(images, labels, maps, strict=True) if of is not None]
    votes = _registered_votes(template, labelled, model, optimization, part(progress, 0.9, 1.0))
    structure_votes = [sitk.Maximum(each, 0) for each in votes]
    smoothing = VOTE_SMOOTHING_VOXELS / len(votes) ** 0.5 if len(votes) > 1 else 0.0
    voted = vote(structure_votes, smoothing_voxels=smoothing)
    _warn_of_lost(voted, structure_votes)
    template, voted, *votes = _cut_all([template, voted, *votes], voted, margin_mm)
    shares = shares_of([sitk.GetArrayFromImage(each) for each in votes])
    return replace(_atlas(name, template, voted, structures), shares=shares)


def average_image(subjects: Sequence[Subject], *, progress: Progress = silent) -> sitk.Image:
    """The affine average of all subjects' images, labelled or not: what scans are aligned with in a training."""
    images = []
    for index, subject in enumerate(subjects):
        progress(f"reading {index + 1}/{len(subjects)}", 0.05 * index / len(subjects))
        images.append(read_image(subject.image))
    return _template(images, None, 0, part(progress, 0.05, 1.0))[0]


def _warn_of_lost(voted: sitk.Image, votes: Sequence[sitk.Image]) -> None:
    """Logs which labels no vote was won for; InputError where none was for any."""
    won, cast = set(label_values(voted)), set().union(*[label_values(each) for each in votes])
    if not won:
        raise InputError(
            "the subjects' labels lie where no other subject's do, so that the atlas would have none; expected labels "
            "of the same structures in aligned images",
            "check that each image and its labels belong together",
        )
    if lost := sorted(cast - won):
        LOG.warning(
            f"{len(lost)} of {len(cast)} labels are not in the atlas, since too few subjects have them at one place: "
            f"{', '.join(map(str, lost[:10]))}{' …' if lost[10:] else ''}"
        )


def _registered_votes(
    template: sitk.Image,
    labelled: Sequence[tuple[sitk.Image, sitk.Image, sitk.Transform]],
    model: Model | None,
    optimization: InstanceOptimization | None,
    progress: Progress,
) -> list[sitk.Image]:
    """Each subject's labels on the template, with the tissues of its background below zero.

    A model registers the subjects once more, to the finished template: their maps so far are those to the one before.
    """
    votes = []
    for n, (image, labels, to) in enumerate(labelled):
        if model is not None:
            to = _to_subject(template, image, model, progress, AFFINE_ROUNDS, n / len(labelled), optimization)
        votes.append(resample(_with_background(image, labels), Grid.of(template), to, labels=True))
    return votes


def _with_background(image: sitk.Image, labels: sitk.Image) -> sitk.Image:
    return placed(single_vote(image, labels), Grid.of(labels))


def build_each(
    subjects: Sequence[Subject],
    *,
    reference: sitk.Image | None = None,
    model: Model | None = None,
    structures: Sequence[Structure] | None = None,
    progress: Progress = silent,
) -> list[Atlas]:
    """Every labelled subject of the train split as an atlas of its own, all affinely on one grid: for label fusion.

    The grid is that of ``reference``, a model's atlas for instance, or else of the subjects' affine average. They are
    aligned as ``model`` wants it. Raises InputError without labelled subjects, and for names that some file systems do
    not tell apart.
    """
    check_distinct([s.name for s in choose(subjects, "train", labelled=True)])
    train, images, labels = _read([s for s in subjects if s.labels is not None], structures, part(progress, 0.0, 0.05))
    if reference is None:
        reference, maps = _template(images, model, 0, part(progress, 0.05, 0.95))
    else:
        maps = [
            _to_subject(reference, image, model, part(progress, 0.05, 0.95), 0, n / len(images))
            for n, image in enumerate(images)
        ]
    progress("labels", 0.95)
    grid = Grid.of(reference)
    return [
        _atlas(subject.name, _as_stored(image, grid, to), resample_labels(of, grid, to), structures)
        for subject, image, of, to in zip(train, images, labels, maps, strict=True)
        if of is not None
    ]


def _read(
    subjects: Sequence[Subject], structures: Sequence[Structure] | None, progress: Progress
) -> tuple[list[Subject], list[sitk.Image], list[sitk.Image | None]]:
    """The subjects of the train split, their images and labels; InputError for no label, and for one without a name.

    Also for a subject whose labels are empty, or are those of no other: of another protocol, or of another file.
    """
    train = choose(subjects, "train")
    if not any(s.labels for s in train):
        raise InputError("no subject with split train has labels; an atlas needs at least one labelled subject")
    images, labels = [], []
    for index, subject in enumerate(train):
        progress(f"reading {index + 1}/{len(train)}", index / len(train))
        for kept, read in zip((images, labels), read_subject(subject), strict=True):
            kept.append(read)
    values = {s.name: set(label_values(of)) for s, of in zip(train, labels, strict=True) if of is not None}
    for name in [name for name, own in values.items() if not own]:
        raise InputError(
            f"the labels of subject {name} are empty; expected at least one label above zero",
            "leave its labels out of the manifest, or correct them",
        )
    for name, own in values.items():
        if len(values) > 1 and not own & set().union(*[other for key, other in values.items() if key != name]):
            raise InputError(
                f"the labels of subject {name}, {sorted(own)[:10]}, are those of no other subject; expected labels of "
                "one protocol",
                "leave its labels out of the manifest, or give its structures the others' numbers",
            )
    if structures is not None:
        unnamed = set().union(*values.values()) - {s.value for s in structures}
        if unnamed:
            raise InputError(f"the labels {sorted(unnamed)[:10]} have no name; add them to the table of label names")
    return train, images, labels


def _template(
    images: Sequence[sitk.Image], model: Model | None, rounds: int, progress: Progress
) -> tuple[sitk.Image, list[sitk.Transform]]:
    """The average image, and the maps from it to every image: AFFINE_ROUNDS, then ``rounds`` of the model."""
    passes = AFFINE_ROUNDS + (rounds if model is not None else 0)
    template = _scaled(images[0])
    maps: list[sitk.Transform] = []
    for index in range(passes):
        step = part(progress, index / passes, (index + 1) / passes)
        found = [_to_subject(template, image, model, step, index, n / len(images)) for n, image in enumerate(images)]
        maps = _unbiased(found, Grid.of(template))
        template = _average(images, maps, Grid.of(template))
    return template, maps


def _as_stored(image: sitk.Image, grid: Grid, transform: sitk.Transform) -> sitk.Image:
    """An image on another grid, in its own type: whole numbers stay so, because they take a fraction of the room."""
    on_grid = resample(image, grid, transform)
    if "integer" not in image.GetPixelIDTypeAsString():
        return on_grid
    return sitk.Cast(sitk.Round(on_grid), image.GetPixelID())


def vote(labels: Sequence[sitk.Image], *, smoothing_voxels: float = 0.0) -> sitk.Image:
    """argmaxₖ G ∗ Σᵢ [labelsᵢ = k]: the most frequent value, background included; the smaller value wins a tie.

    G is a Gaussian of ``smoothing_voxels``: where few subjects vote on a folded cortex, neighbours have a say too.
    """
    arrays = [sitk.GetArrayViewFromImage(image) for image in labels]
    best = np.zeros(arrays[0].shape, np.min_scalar_type(max(int(a.max()) for a in arrays)))
    most = _votes(arrays, 0, smoothing_voxels)
    for value in sorted(set().union(*[np.unique(a).tolist() for a in arrays]) - {0}):
        votes = _votes(arrays, value, smoothing_voxels)
        best[votes > most] = value
        np.maximum(most, votes, out=most)
    return placed(best, Grid.of(labels[0]))


def _votes(arrays: Sequence[np.ndarray], value: int, smoothing_voxels: float) -> np.ndarray:
    votes = np.asarray(np.sum([a == value for a in arrays], axis=0, dtype=np.float32))
    if smoothing_voxels == 0:
        return votes
    smooth = sitk.DiscreteGaussian(sitk.GetImageFromArray(votes), [smoothing_voxels**2] * 3, 16, 0.01, False)
    return sitk.GetArrayFromImage(smooth)


def _to_subject(
    template: sitk.Image,
    image: sitk.Image,
    model: Model | None,
    progress: Progress,
    index: int,
    fraction: float,
    optimization: InstanceOptimization | None = None,
) -> sitk.Transform:
    """The map template → subject: affine in the first rounds, then with the model's deformation if there is one."""
    progress(f"round {index + 1}", fraction)
    if model is None or index < AFFINE_ROUNDS:
        return first_alignment(template, image, model, step=lambda: progress(f"round {index + 1}", fraction))
    # The subject is the moving image here, so the network's grid must still be the template's: fixed and moving swap
    # through the inverse, which the network gives exactly.
    registration = register(image, template, model, optimization=optimization)
    if registration.inverse is None:
        raise InputError(f"model {model.name} has no inverse map; build the atlas with a diffeomorphic network")
    return registration.inverse


def _unbiased(maps: Sequence[sitk.Transform], grid: Grid) -> list[sitk.Transform]:
    """T_i ∘ M⁻¹ with the mean map M: what remains has no common part, so the template drifts towards the mean shape."""
    centre = grid.corners_mm().mean(axis=0).tolist()
    linear = [t for t in maps if t.IsLinear()]
    if len(linear) == len(maps):
        mean = _mean_linear([sitk.AffineTransform(t) for t in linear], centre)
        return [chain(t, mean.GetInverse()) for t in maps]
    affines = [sitk.AffineTransform(sitk.CompositeTransform(t).GetNthTransform(0)) for t in maps]
    deformations = [sitk.CompositeTransform(t).GetNthTransform(1) for t in maps]
    back = chain(_inverse_of_mean(deformations), _mean_linear(affines, centre).GetInverse())
    return [chain(t, back) for t in maps]


def _mean_linear(affines: Sequence[sitk.AffineTransform], centre: Sequence[float]) -> sitk.AffineTransform:
    """p ↦ c + mean(A_i) (p − c): the average matrix about the grid's centre.

    Not the average shift: where in a scanner the subjects lay would carry the template off its grid.
    """
    matrices = np.array([a.GetMatrix() for a in affines]).mean(axis=0)
    return sitk.AffineTransform(matrices.tolist(), (0.0, 0.0, 0.0), centre)


def _inverse_of_mean(deformations: Sequence[sitk.Transform]) -> sitk.DisplacementFieldTransform:
    """The inverse of p ↦ mean of D_i(p), on the grid that the fields share."""
    fields = [sitk.DisplacementFieldTransform(d).GetDisplacementField() for d in deformations]
    vectors = np.mean([sitk.GetArrayViewFromImage(f) for f in fields], axis=0)
    mean = placed(vectors, Grid.of(fields[0]), vectors=True)
    return sitk.DisplacementFieldTransform(sitk.InvertDisplacementField(mean, maximumNumberOfIterations=20))


def _average(images: Sequence[sitk.Image], maps: Sequence[sitk.Transform], grid: Grid) -> sitk.Image:
    """Mean of the normalised images, warped onto the grid, scaled to whole numbers."""
    total = torch.zeros(1, 1, *grid.shape)
    for image, to in zip(images, maps, strict=True):
        total += _on_grid(image, to, grid)
    return _scaled(to_image(total / len(images), grid))


def _on_grid(image: sitk.Image, to_subject: sitk.Transform, grid: Grid) -> Tensor:
    return normalise(to_tensor(resample(image, grid, to_subject)))


def _scaled(image: sitk.Image) -> sitk.Image:
    """The image's range as 0…TEMPLATE_MAXIMUM, 16 bit."""
    return sitk.Cast(sitk.RescaleIntensity(sitk.Cast(image, sitk.sitkFloat32), 0, TEMPLATE_MAXIMUM), sitk.sitkUInt16)


def _agreement(template: sitk.Image, image: sitk.Image, to_subject: sitk.Transform) -> float:
    """Correlation of a subject, affinely on the template's grid, with the template."""
    flat = sitk.CompositeTransform(to_subject)
    parts = [flat.GetNthTransform(n) for n in range(flat.GetNumberOfTransforms())]
    affine = chain(*[part for part in parts if part.IsLinear()])
    warped = _on_grid(image, affine, Grid.of(template)).flatten()
    target = normalise(to_tensor(template)).flatten()
    return float(torch.corrcoef(torch.stack([warped, target]))[0, 1])


def _cut(image: sitk.Image, labels: sitk.Image, margin_mm: float | None) -> tuple[sitk.Image, sitk.Image]:
    image, labels = _cut_all([image, labels], labels, margin_mm)
    return image, labels


def _cut_all(images: Sequence[sitk.Image], labels: sitk.Image, margin_mm: float | None) -> list[sitk.Image]:
    """Images within the labels' box and ``margin_mm`` around it, rounded up to voxels; None leaves them whole."""
    if margin_mm is None:
        return list(images)
    index = np.argwhere(sitk.GetArrayViewFromImage(labels))[:, ::-1]
    margin = np.ceil(margin_mm / np.array(labels.GetSpacing()) - 1e-6).astype(int)
    first = np.maximum(index.min(axis=0) - margin, 0)
    size = np.minimum(index.max(axis=0) + margin + 1, labels.GetSize()) - first
    return [sitk.RegionOfInterest(whole, size.tolist(), first.tolist()) for whole in images]


def _atlas(name: str, image: sitk.Image, labels: sitk.Image, structures: Sequence[Structure] | None) -> Atlas:
    values = label_values(labels)
    if not values:
        raise InputError(
            f"the labels of {name} lie outside of the atlas' grid, which would have none; expected an image and labels "
            "that belong together",
            "leave it out of the manifest, or correct it",
        )
    known = structures if structures is not None else default_structures(values)
    return Atlas(name, image, labels, tuple(s for s in known if s.value in values))
