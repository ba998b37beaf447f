"""Registering an image to a series: to one frame by itself, and along that frame's own motion to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import SimpleITK as sitk

from ..bundles.model import Model, affine_model
from ..geometry import Grid, chain, resample, resample_labels
from ..instance_optimization import InstanceOptimization
from ..io.series import ImageSeries
from ..matching import prepare_image
from ..progress import Progress, Stopwatch, part, silent
from ..registration import Registration, register
from .choice import FrameChoice, check_numbers, frame_choice, no_phases
from .following import FOLLOWING, Followed, follow


@dataclass(frozen=True)
class SeriesRegistration:
    """The maps from each frame to moving, LPS, mm: warped(p) = moving(transforms[frame](p)).

    ``registration`` is that of frame ``key``; the others' are it after their own map to that frame. Frames are numbers
    from 0, ``transforms`` in the order of time; ``similarity`` is each frame's local correlation with frame ``key``.
    """

    series: ImageSeries
    key: int
    registration: Registration
    transforms: dict[int, sitk.CompositeTransform]
    similarity: dict[int, float]
    duration_s: Mapping[str, float]

    def warp(self, image: sitk.Image, *, labels: bool = False) -> dict[int, sitk.Image]:
        """An image in the moving image's space on each frame's grid, resampled once."""
        grid = Grid.of(self.series.frames[0])
        if labels:
            return {n: resample_labels(image, grid, transform) for n, transform in self.transforms.items()}
        return {n: resample(image, grid, transform, outside=0.0) for n, transform in self.transforms.items()}


def register_series(
    fixed: ImageSeries | Sequence[sitk.Image],
    moving: sitk.Image,
    model: Model | None = None,
    *,
    labels: sitk.Image | None = None,
    frames: str | Sequence[int] | FrameChoice = "all",
    affine: sitk.Transform | None = None,
    optimization: InstanceOptimization | None = None,
    following: InstanceOptimization | None = FOLLOWING,
    progress: Progress = silent,
) -> SeriesRegistration:
    """The maps that warp ``moving`` onto each of the ``frames``: all, or numbers from 1, the first the one to follow.

    Without a number first that is the first frame. ``labels`` of ``moving`` help to place it; ``affine``,
    ``optimization`` and ``model`` are as of ``register``, ``following`` is the optimization of the other frames' maps
    to that one, None leaves it at the network's answer. Raises InputError for frames that are not there and for ed and
    es, which labels with names tell alone.
    """
    series = fixed if isinstance(fixed, ImageSeries) else ImageSeries(tuple(fixed))
    choice, watch = frame_choice(frames), Stopwatch()
    check_numbers(choice, len(series))
    no_phases(choice)
    if model is None:
        model, optimization = affine_model(), optimization or InstanceOptimization()
        following = following or optimization
    key, numbers = choice.first or 0, range(len(series)) if choice.everything else choice.numbers
    prepared = prepare_image(model, moving, labels)
    registration = register(
        series.frames[key], prepared, model, affine=affine, optimization=optimization, progress=part(progress, 0.0, 0.3)
    )
    transforms, alike = {key: registration.transform}, dict[int, float]()
    for one in follow(
        series.frames,
        key,
        list(numbers),
        model,
        labels=None,
        cyclic=False,
        optimization=following,
        watch=watch,
        progress=part(progress, 0.3, 1.0),
    ):
        assert isinstance(one, Followed)  # what is no cycle has no two ways
        transforms[one.frame] = chain(registration.transform, one.registration.transform)
        alike[one.frame] = one.registration.similarity[1]
    wanted = sorted({*numbers, key} if choice.everything else numbers)
    spent = {**registration.duration_s}
    for step, seconds in watch.seconds.items():
        spent[step] = round(spent.get(step, 0.0) + seconds, 2)
    return SeriesRegistration(series, key, registration, {n: transforms[n] for n in wanted}, alike, spent)
