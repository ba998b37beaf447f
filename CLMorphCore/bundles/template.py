"""Building an atlas from many subjects: an average template with voted labels, or the most typical subject."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from ..io.scratch import ScratchRows
from ..matching import first_alignment
from ..network_input import normalise
from ..progress import Progress, part, silent
from ..registration import register
from ..tissue.shares import label_type, shares_of, single_vote
from .atlas import Atlas, Structure, default_structures, label_values
from .mean_map import SubjectMaps, unbiased
from .model import Model

LOG = logging.getLogger(__name__)
AFFINE_ROUNDS = 2
ROUNDS = 3  # of registration to the average, after the affine ones
FEWER = "give fewer subjects"  # where the disk has no room
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
    ``optimization`` refines the model's maps that carry the votes. What is kept of each subject lies in temporary
    files: their number does not change what memory it takes. Raises InputError without labelled subjects, OutputError
    where the disk has no room.
    """
    train, largest = _checked(subjects, structures, part(progress, 0.0, 0.05))
    template, maps = _template(train, model, rounds, part(progress, 0.05, 0.9))
    progress("labels", 0.9)
    labelled = [n for n, subject in enumerate(train) if subject.labels is not None]
    if typical:
        best = train[max(labelled, key=lambda n: _agreement(template, read_image(train[n].image), maps[n]))]
        image, own = read_subject(best)
        assert own is not None  # only labelled subjects were compared
        box = _box(own, margin_mm)
        return _atlas(best.name, sitk.RegionOfInterest(image, *box), sitk.RegionOfInterest(own, *box), structures)
    votes = ScratchRows(len(labelled), Grid.of(template).shape, label_type(largest), FEWER)
    last = part(progress, 0.9, 1.0)
    for row, n in enumerate(labelled):
        image, own = read_subject(train[n])
        assert own is not None
        if model is None:
            to = maps[n]
        else:  # once more, to the finished template: the map so far is to the one before
            to = _to_subject(template, image, model, last, AFFINE_ROUNDS, row / len(labelled), optimization)
        votes[row] = _vote_of(image, own, to, Grid.of(template))
    smoothing = VOTE_SMOOTHING_VOXELS / len(votes) ** 0.5 if len(votes) > 1 else 0.0
    voted = placed(_most_frequent(votes, smoothing), Grid.of(template))
    _warn_of_lost(voted, votes)
    box = _box(voted, margin_mm)
    shares = shares_of(votes, _slices(box))
    image, labels = (sitk.RegionOfInterest(whole, *box) for whole in (template, voted))
    return replace(_atlas(name, image, labels, structures), shares=shares)


def average_image(subjects: Sequence[Subject], *, progress: Progress = silent) -> sitk.Image:
    """The affine average of all subjects' images, labelled or not: what scans are aligned with in a training."""
    return _template(subjects, None, 0, progress)[0]


def _warn_of_lost(voted: sitk.Image, votes: Iterable[np.ndarray]) -> None:
    """Logs which labels no vote was won for; InputError where none was for any."""
    won, cast = set(label_values(voted)), set().union(*[np.unique(vote[vote > 0]).tolist() for vote in votes])
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


def _vote_of(image: sitk.Image, labels: sitk.Image, to: sitk.Transform, grid: Grid) -> np.ndarray:
    """A subject's labels on the template's grid, with the tissues of its background below zero: (D, H, W)."""
    own = placed(single_vote(image, labels), Grid.of(labels))
    return sitk.GetArrayFromImage(resample(own, grid, to, labels=True))


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
    return list(each_built(subjects, reference=reference, model=model, structures=structures, progress=progress))


def each_built(
    subjects: Sequence[Subject],
    *,
    reference: sitk.Image | None = None,
    model: Model | None = None,
    structures: Sequence[Structure] | None = None,
    progress: Progress = silent,
) -> Iterator[Atlas]:
    """The atlases of ``build_each``, one after another."""
    check_distinct([s.name for s in choose(subjects, "train", labelled=True)])
    labelled = [s for s in subjects if s.labels is not None]
    train, _ = _checked(labelled, structures, part(progress, 0.0, 0.05))
    aligning, maps = part(progress, 0.05, 0.95), None
    if reference is None:
        reference, maps = _template(train, model, 0, aligning)
        progress("labels", 0.95)
    grid = Grid.of(reference)
    for n, subject in enumerate(train):
        image, own = read_subject(subject)
        assert own is not None
        to = maps[n] if maps is not None else _to_subject(reference, image, model, aligning, 0, n / len(train))
        yield _atlas(subject.name, _as_stored(image, grid, to), resample_labels(own, grid, to), structures)


def _checked(
    subjects: Sequence[Subject], structures: Sequence[Structure] | None, progress: Progress
) -> tuple[list[Subject], int]:
    """The subjects of the train split, each read once, and the largest of their labels.

    InputError for no label, and for one without a name; also for a subject whose labels are empty, or are those of no
    other: of another protocol, or of another file.
    """
    train = choose(subjects, "train")
    if not any(s.labels for s in train):
        raise InputError("no subject with split train has labels; an atlas needs at least one labelled subject")
    values: dict[str, set[int]] = {}
    for index, subject in enumerate(train):
        progress(f"reading {index + 1}/{len(train)}", index / len(train))
        _, labels = read_subject(subject)
        if labels is not None:
            values[subject.name] = set(label_values(labels))
    for name in [name for name, own in values.items() if not own]:
        raise InputError(
            f"the labels of subject {name} are empty; expected at least one label above zero",
            "leave its labels out of the manifest, or correct them",
        )
    owners = Counter(value for own in values.values() for value in own)
    for name, own in values.items():
        if len(values) > 1 and all(owners[value] == 1 for value in own):
            raise InputError(
                f"the labels of subject {name}, {sorted(own)[:10]}, are those of no other subject; expected labels of "
                "one protocol",
                "leave its labels out of the manifest, or give its structures the others' numbers",
            )
    if structures is not None:
        unnamed = owners.keys() - {s.value for s in structures}
        if unnamed:
            raise InputError(f"the labels {sorted(unnamed)[:10]} have no name; add them to the table of label names")
    return train, max(owners)


def _template(
    subjects: Sequence[Subject], model: Model | None, rounds: int, progress: Progress
) -> tuple[sitk.Image, SubjectMaps]:
    """The average image, and the maps from it to every image: AFFINE_ROUNDS, then ``rounds`` of the model.

    Every image is read in every round: their number does not change what the memory holds.
    """
    passes = AFFINE_ROUNDS + (rounds if model is not None else 0)
    template, maps = _scaled(read_image(subjects[0].image)), None
    for index in range(passes):
        maps = None  # those of the round before would take their room still
        step = part(progress, index / passes, (index + 1) / passes)
        found = (
            _to_subject(template, read_image(s.image), model, step, index, n / len(subjects))
            for n, s in enumerate(subjects)
        )
        maps = unbiased(found, len(subjects), Grid.of(template))
        template = _average(subjects, maps, Grid.of(template))
    assert maps is not None
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
    return placed(_most_frequent(arrays, smoothing_voxels), Grid.of(labels[0]))


def _most_frequent(votes: Sequence[np.ndarray] | ScratchRows, smoothing_voxels: float) -> np.ndarray:
    """The same of N arrays (D, H, W), where the background is 0 and below."""
    values = sorted(set().union(*[np.unique(one[one > 0]).tolist() for one in votes]))
    best = np.zeros(votes[0].shape, np.min_scalar_type(max(values, default=0)))
    most = _smoothed(_counted(votes, lambda one: one <= 0), smoothing_voxels)
    for value in values:
        count = _smoothed(_counted(votes, lambda one, value=value: one == value), smoothing_voxels)
        best[count > most] = value
        np.maximum(most, count, out=most)
    return best


def _counted(votes: Sequence[np.ndarray] | ScratchRows, which: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """How many of the votes ``which`` is true of, at each voxel: float32."""
    count = np.zeros(votes[0].shape, np.float32)
    for one in votes:
        count += which(one)
    return count


def _smoothed(count: np.ndarray, voxels: float) -> np.ndarray:
    if voxels == 0:
        return count
    smooth = sitk.DiscreteGaussian(sitk.GetImageFromArray(count), [voxels**2] * 3, 16, 0.01, False)
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


def _average(subjects: Sequence[Subject], maps: SubjectMaps, grid: Grid) -> sitk.Image:
    """Mean of the normalised images, warped onto the grid, scaled to whole numbers."""
    total = torch.zeros(1, 1, *grid.shape)
    for subject, to in zip(subjects, maps, strict=True):
        total += _on_grid(read_image(subject.image), to, grid)
    return _scaled(to_image(total / len(subjects), grid))


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


Box = tuple[list[int], list[int]]  # size and first voxel (x, y, z)


def _box(labels: sitk.Image, margin_mm: float | None) -> Box:
    """The labels' box and ``margin_mm`` around it, rounded up to voxels; all of the image for None."""
    if margin_mm is None:
        return list(labels.GetSize()), [0, 0, 0]
    index = np.argwhere(sitk.GetArrayViewFromImage(labels))[:, ::-1]
    margin = np.ceil(margin_mm / np.array(labels.GetSpacing()) - 1e-6).astype(int)
    first = np.maximum(index.min(axis=0) - margin, 0)
    size = np.minimum(index.max(axis=0) + margin + 1, labels.GetSize()) - first
    return size.tolist(), first.tolist()


def _slices(box: Box) -> tuple[slice, ...]:
    """The box of an array (z, y, x)."""
    return tuple(slice(first, first + size) for size, first in zip(*box, strict=True))[::-1]


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
