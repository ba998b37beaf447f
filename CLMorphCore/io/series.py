"""Several volumes in time: a beating heart, contrast that arrives, breathing. Read from any file that holds them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import FileError, InputError
from ..geometry import check_same_grid
from .frames import write_frames
from .images import SOURCE, check_image, volume_of, write_image
from .volume import Volume, straightened, to_image, warnings_of

LOG = logging.getLogger(__name__)
NIFTI_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}  # of the header's codes of a unit of time
SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "milliseconds": 1e-3}
TIME_HEADER = ("frame_step", "frame_units", "frame_values", "frame_unit")
EVEN = 1e-3  # of a time step, by which frames may be off to be evenly spaced


@dataclass(frozen=True)
class ImageSeries:
    """Frames on one grid, in their order, and their times in seconds, or None where those are not known.

    InputError for no frames, for frames on several grids, and for times that do not ascend or are not one per frame.
    """

    frames: tuple[sitk.Image, ...]
    times_s: tuple[float, ...] | None = None
    source: str = "unnamed series"
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.frames:
            raise InputError("a series has no frames; expected one at least")
        for n, frame in enumerate(self.frames[1:], start=2):
            check_same_grid(self.frames[0], frame, names=("frame 1", f"voxels of frame {n}"))
        times = self.times_s
        if times is not None and (len(times) != len(self.frames) or any(np.diff(times) <= 0)):
            raise InputError(
                f"a series of {len(self.frames)} frames has the times {', '.join(f'{t:g}' for t in times[:5])} …; "
                "expected one per frame, ascending, or none"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def only(self, numbers: Sequence[int]) -> ImageSeries:
        """The frames with these numbers, from 0, in the order of time."""
        kept = sorted(numbers)
        times = None if self.times_s is None else tuple(self.times_s[n] for n in kept)
        return replace(self, frames=tuple(self.frames[n] for n in kept), times_s=times)


def read_series(path: str | Path) -> ImageSeries:
    """The frames of a NIfTI, NRRD (as Slicer's .seq.nrrd), MetaImage or DICOM file, or folder of one DICOM series.

    One volume is a series of one. FileError where it cannot be read in full, or a frame is no usable scan.
    """
    path = Path(path)
    volume = volume_of(path, series=True)
    several = volume.voxels.ndim == 4 and volume.voxels.shape[-1] > 1
    volumes = [replace(volume, voxels=voxels) for voxels in volume.voxels] if several else [volume]
    frames = []
    for n, one in enumerate(volumes, start=1):
        straight = straightened(one, path.name)
        image = to_image(replace(straight, header={k: v for k, v in one.header.items() if k not in TIME_HEADER}))
        image.SetMetaData(SOURCE, str(path.absolute()))
        check_image(image, f"{path}, frame {n}," if several else str(path))
        frames.append(image)
    for warning in warnings_of(frames[0]):
        LOG.warning(warning)
    return ImageSeries(tuple(frames), _times(volume, len(frames)), str(path), warnings_of(frames[0]))


def _times(volume: Volume, count: int) -> tuple[float, ...] | None:
    """Seconds of each frame, by the header; None where it has no unit of time, or no times that ascend."""
    header = volume.header
    step = NIFTI_SECONDS.get(int(float(header.get("frame_units", 0))), 0.0) * float(header.get("frame_step", 0))
    if count > 1 and np.isfinite(step) and step > 0:
        return tuple((step * np.arange(count)).tolist())
    unit, words = SECONDS.get(header.get("frame_unit", "").lower(), 0.0), header.get("frame_values", "").split()
    try:
        times = unit * np.array([float(word) for word in words])
    except ValueError:
        return None
    ascend = count > 1 and len(times) == count and np.isfinite(times).all() and (np.diff(times) > 0).all()
    return tuple(times.tolist()) if ascend else None


def has_several_frames(path: Path) -> bool:
    """Whether a file or folder holds several volumes that ``read_series`` takes."""
    try:
        return len(read_series(path)) > 1
    except (FileError, OSError):  # which comes again when it is read
        return False


def write_series(frames: Iterable[sitk.Image], path: Path, like: ImageSeries) -> None:
    """Writes frames as one NIfTI file on the grid of ``like``, with its time between frames where that is one.

    One frame alone becomes a file of three dimensions.
    """
    frames = list(frames)
    if len(frames) == 1:
        write_image(frames[0], path, scan=like.frames[0])
        return
    header, times = sitk.Image(1, 1, sitk.sitkUInt8), like.times_s
    step = float(np.mean(np.diff(times))) if times is not None and len(times) > 1 else 0.0
    if times is not None and step > 0 and np.abs(np.diff(times) - step).max() > EVEN * step:
        step = 0.0  # NIfTI has one step alone
    header.SetMetaData("frame_step", repr(step))
    header.SetMetaData("frame_units", "8" if step > 0 else "0")
    write_frames(frames, path, like=header, reference=like.frames[0])
