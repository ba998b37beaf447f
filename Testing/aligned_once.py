"""Affine alignments remembered by the voxels, places and masks of both images, for tests that are not about them."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import SimpleITK as sitk

from CLMorphCore import alignment

_FOUND: dict[tuple, sitk.AffineTransform] = {}


@contextmanager
def aligned_once() -> Iterator[None]:
    """The engine aligns any two images once; who asks for the same ones again gets a copy of what was found.

    That alignments do not depend on chance or on what else computes is tested where they are not remembered.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("matching", "training.batches"):
            patch.setattr(f"CLMorphCore.{module}.align", _remembered(alignment.align))
        yield


def _remembered(align: Callable[..., sitk.AffineTransform]) -> Callable[..., sitk.AffineTransform]:
    def remembered(fixed, moving, *, masks=(None, None), start=None, step=lambda: None):
        key = (*(_image(each) for each in (fixed, moving, *masks)), start and _linear(start))
        if key not in _FOUND:
            _FOUND[key] = align(fixed, moving, masks=masks, start=start, step=step)
        else:
            step()  # it may cancel
        return sitk.AffineTransform(_FOUND[key])

    return remembered


def _linear(transform: sitk.Transform) -> tuple:
    matrix, offset = alignment.linear_parts(transform)
    return *matrix.ravel().tolist(), *offset.tolist()


def _image(image: sitk.Image | None) -> tuple | None:
    if image is None:
        return None
    voxels = hashlib.sha256(sitk.GetArrayViewFromImage(image).tobytes()).hexdigest()
    return voxels, image.GetPixelID(), image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
