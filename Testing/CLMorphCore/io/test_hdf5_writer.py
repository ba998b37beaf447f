"""Transform files hold exactly what was written, in few bytes, and ITK reads them."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as some

from CLMorphCore.errors import OutputError
from CLMorphCore.io.transforms import read_transform, write_transform

STEP_MM = 2.0**-7


def field(shape, seed=0, step=STEP_MM):
    """Smooth displacements of a few mm, multiples of a step, on a turned grid."""
    rng = np.random.default_rng(seed)
    coarse = sitk.GetImageFromArray(rng.normal(0, 4, (4, 5, 6, 3)), isVector=True)
    image = sitk.Image(shape[::-1], sitk.sitkUInt8)
    coarse.SetSpacing([(n - 1) / (m - 1) for n, m in zip(image.GetSize(), coarse.GetSize(), strict=True)])
    values = sitk.GetArrayFromImage(sitk.Resample(coarse, image, sitk.Transform(), sitk.sitkLinear))
    vectors = sitk.GetImageFromArray(np.rint(values / step) * step if step else values, isVector=True)
    vectors.SetSpacing((1.5, 1.25, 2.0))
    vectors.SetOrigin((-7.0, 3.0, 11.0))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.1)
    vectors.SetDirection(turn.GetMatrix())
    return sitk.DisplacementFieldTransform(vectors)


def same(read, written):
    read = sitk.CompositeTransform(read)
    assert read.GetNumberOfTransforms() == written.GetNumberOfTransforms()
    for n in range(read.GetNumberOfTransforms()):
        here, there = read.GetNthTransform(n), written.GetNthTransform(n)
        assert here.GetName() == there.GetName() and here.GetFixedParameters() == there.GetFixedParameters()
        if here.GetName() == "DisplacementFieldTransform":
            here, there = (
                sitk.GetArrayFromImage(sitk.DisplacementFieldTransform(each).GetDisplacementField())
                for each in (here, there)
            )
            np.testing.assert_array_equal(here, there)
        else:
            assert here.GetParameters() == there.GetParameters()


LINEAR = (
    sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0)),
    sitk.AffineTransform([1.1, 0.1, 0, 0, 0.9, 0.2, 0.01, 0, 1.3], [1 / 3, 2.0, -3.0], [0.5, 16.0, 4.5]),
    sitk.TranslationTransform(3, (0.1, 0.2, 0.3)),
    sitk.Transform(3, sitk.sitkIdentity),
)


@settings(max_examples=25, deadline=None)
@given(
    shape=some.tuples(*[some.integers(2, 40)] * 3),
    step=some.sampled_from([STEP_MM, 0.0]),
    before=some.lists(some.sampled_from(LINEAR), max_size=2),
    after=some.lists(some.sampled_from(LINEAR), max_size=2),
)
def test_a_transform_is_read_as_it_was_written(shape, step, before, after, tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "t.h5"
    written = sitk.CompositeTransform([*before, field(shape, step=step), *after])
    write_transform(written, path)
    same(sitk.ReadTransform(str(path)), written)
    same(read_transform(path), written)


def test_a_field_of_more_numbers_than_chunks_of_the_usual_size_hold_is_read_as_it_was_written(tmp_path):
    written = sitk.CompositeTransform([field((120, 110, 112))])
    write_transform(written, tmp_path / "t.h5")
    same(sitk.ReadTransform(str(tmp_path / "t.h5")), written)
    assert (tmp_path / "t.h5").stat().st_size < 5 * 120 * 110 * 112  # bytes a voxel, where three doubles are 24


def test_the_same_transform_makes_the_same_file(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_transform(sitk.CompositeTransform([field((20, 30, 40)), LINEAR[1]]), tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_field_with_a_number_that_single_precision_lacks_stays_double(tmp_path):
    image = sitk.Image(16, 16, 16, sitk.sitkVectorFloat64) + 1 / 3
    write_transform(sitk.CompositeTransform([sitk.DisplacementFieldTransform(image)]), tmp_path / "t.h5")
    assert sitk.ReadTransform(str(tmp_path / "t.h5")).TransformPoint((4.0, 4.0, 4.0)) == (4 + 1 / 3,) * 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="No space left"):
        write_transform(sitk.CompositeTransform([field((30, 30, 30))]), Path("/dev/full"))
