"""Several volumes in time from every format that holds them: the same frames in their places, with their times."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_dicom import ORIENTATION, SPACING, enhanced, file, pixels, place, tags

from CLMorphCore.errors import FileError, InputError
from CLMorphCore.io.images import read_image
from CLMorphCore.io.series import ImageSeries, has_several_frames, read_series, write_series

PHASES = 3


@pytest.fixture
def frames(image):
    """Three frames, each another permutation of the image's voxels."""
    rng, made = np.random.default_rng(1), []
    for _ in range(PHASES):
        one = sitk.GetImageFromArray(rng.permuted(sitk.GetArrayFromImage(image)))
        one.CopyInformation(image)
        made.append(one)
    return made


def assert_frames(found, frames):
    assert len(found) == len(frames)
    for one, expected in zip(found.frames, frames, strict=True):
        assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(expected))
        for which in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(one, which)() == pytest.approx(getattr(expected, which)(), abs=1e-4)


def joined(frames, step):
    whole = sitk.JoinSeries(frames)
    whole.SetSpacing([*frames[0].GetSpacing(), step])
    return whole


@pytest.mark.parametrize(("ending", "times"), [("nii.gz", (0, 0.05, 0.1)), ("nii", (0, 0.05, 0.1)), ("mha", None)])
def test_files_that_itk_wrote_are_read_frame_by_frame(ending, times, frames, tmp_path):
    sitk.WriteImage(joined(frames, 0.05), str(tmp_path / f"cine.{ending}"))
    found = read_series(tmp_path / f"cine.{ending}")
    assert_frames(found, frames)
    assert found.times_s == (times if times is None else pytest.approx(times))
    assert found.warnings == ()


def sequence(path, frames, *, values="0 50 130", units='units: "ms" "" "" ""\n', kinds="list domain domain domain"):
    """What Slicer saves of a sequence: the list's axis is the fastest."""
    one = frames[0]
    columns = (np.reshape(one.GetDirection(), (3, 3)) * one.GetSpacing()).T
    axes = " ".join(f"({','.join(map(repr, map(float, column)))})" for column in columns)
    voxels = np.stack([sitk.GetArrayFromImage(frame) for frame in frames], axis=-1)
    sides = " ".join(map(str, voxels.shape[::-1]))
    header = (
        f"NRRD0005\ntype: unsigned short\ndimension: 4\nspace: left-posterior-superior\nsizes: {sides}\n"
        f'space directions: none {axes}\nkinds: {kinds}\nlabels: "time" "" "" ""\n{units}endian: little\n'
        f"encoding: gzip\nspace origin: ({','.join(map(repr, one.GetOrigin()))})\n"
        f"axis 0 index type:=numeric\naxis 0 index values:={values}\n\n"
    )
    path.write_bytes(header.encode() + gzip.compress(voxels.astype("<u2").tobytes()))
    return path


def test_a_sequence_of_slicer_is_read_with_its_uneven_times(frames, tmp_path):
    found = read_series(sequence(tmp_path / "cine.seq.nrrd", frames))
    assert_frames(found, frames)
    assert found.times_s == pytest.approx((0, 0.05, 0.13))
    assert found.warnings == ()  # the unit of time is none of length


@pytest.mark.parametrize(("values", "units"), [("0 1 2", ""), ("a b c", 'units: "s"\n'), ("2 1 0", 'units: "s"\n')])
def test_frames_without_a_unit_or_in_no_order_have_no_times(values, units, frames, tmp_path):
    found = read_series(sequence(tmp_path / "cine.seq.nrrd", frames, values=values, units=units))
    assert_frames(found, frames)
    assert found.times_s is None


@pytest.mark.parametrize("kind", ["vector", "RGB-color", "3-color", "complex"])
def test_vectors_and_colours_are_no_frames(kind, frames, tmp_path):
    path = sequence(tmp_path / "cine.nrrd", frames, kinds=f"{kind} domain domain domain")
    with pytest.raises(FileError, match="one intensity per voxel"):
        read_series(path)
    assert not has_several_frames(path)


def test_one_volume_is_a_series_of_one(image, tmp_path):
    sitk.WriteImage(image, str(tmp_path / "one.nrrd"))
    assert_frames(read_series(tmp_path / "one.nrrd"), [image])
    assert not has_several_frames(tmp_path / "one.nrrd")


# -- DICOM


def phases(frames, folder, **values):
    """A file for each slice of each phase, named so that phases and slices are mixed."""
    folder.mkdir()
    for p, frame in enumerate(frames):
        for n in range(frame.GetDepth()):
            one = file(
                frame,
                ImagePositionPatient=place(frame, n),
                ImageOrientationPatient=ORIENTATION,
                PixelSpacing=[SPACING[1], SPACING[0]],
            )
            one.PixelData = pixels(frame, [n])
            for name, value in values.items():
                setattr(one, name, value(p, n))
            one.save_as(folder / f"{(n * 5 + p * 3) % 14:02}-{p}.dcm")
    return folder


@pytest.mark.parametrize(
    ("values", "times"),
    [
        ({"TriggerTime": lambda p, n: 40.0 * p + n}, (0, 0.04, 0.08)),
        ({"TemporalPositionIdentifier": lambda p, n: p + 1}, None),
        ({"TemporalPositionIdentifier": lambda p, n: p + 1, "TriggerTime": lambda p, n: 25.0 * p}, (0, 0.025, 0.05)),
        ({"AcquisitionTime": lambda p, n: f"1259{58 + p // 2:02}.{50 * (p % 2):02}"}, (0, 0.5, 1.0)),
        ({"InstanceNumber": lambda p, n: n * PHASES + p}, None),
        ({"InstanceNumber": lambda p, n: n + 14 * p}, None),
    ],
)
def test_phases_of_a_classic_series_are_told_apart_by_what_it_says_of_time(values, times, frames, tmp_path):
    folder = phases(frames, tmp_path / "cine", **values)
    found = read_series(folder)
    assert_frames(found, frames)
    assert found.times_s == (times if times is None else pytest.approx(times))
    with pytest.raises(FileError, match="several volumes"):
        read_image(folder)


def test_phases_of_a_file_of_many_frames_are_told_apart(frames, tmp_path):
    order = [(p, n) for n in range(14) for p in (2, 0, 1)]
    found = enhanced(frames[0], [n for _, n in order])
    found.PixelData = b"".join(pixels(frames[p], [n]) for p, n in order)
    for group, (p, _) in zip(found.PerFrameFunctionalGroupsSequence, order, strict=True):
        group.CardiacSynchronizationSequence = [tags(NominalCardiacTriggerDelayTime=31.5 * p)]
    found.save_as(tmp_path / "cine.dcm")
    series = read_series(tmp_path / "cine.dcm")
    assert_frames(series, frames)
    assert series.times_s == pytest.approx((0, 0.0315, 0.063))


def test_a_cine_whose_slices_are_series_of_their_own_is_one(frames, tmp_path):
    values = {"SeriesInstanceUID": lambda p, n: f"1.2.3.{n}", "InstanceNumber": lambda p, n: p + 1}
    folder = phases(frames, tmp_path / "cine", **values)
    assert_frames(read_series(folder), frames)
    with pytest.raises(FileError, match="holds 14 DICOM series"):
        read_image(folder)


def test_several_series_of_one_place_are_refused(frames, tmp_path):
    values = {"SeriesInstanceUID": lambda p, n: f"1.2.3.{p}", "InstanceNumber": lambda p, n: n}
    with pytest.raises(FileError, match="holds 3 DICOM series"):
        read_series(phases(frames, tmp_path / "cine", **values))


def test_a_series_that_lacks_a_phase_of_a_slice_is_refused(frames, tmp_path):
    folder = phases(frames, tmp_path / "cine", InstanceNumber=lambda p, n: n * PHASES + p)
    next(folder.glob("*-1.dcm")).unlink()
    with pytest.raises(FileError, match=r"2 frames at one place and 3 at another"):
        read_series(folder)


def test_phases_that_nothing_tells_apart_are_refused(frames, tmp_path):
    folder = phases(frames, tmp_path / "cine")
    with pytest.raises(FileError, match=r"3 frames at each place, and no tag .* tells them apart"):
        read_series(folder)


# -- the value, and writing it


def test_a_frame_that_is_no_scan_is_named(frames, tmp_path):
    frames[1] = sitk.Image(frames[0].GetSize(), sitk.sitkUInt16)
    frames[1].CopyInformation(frames[0])
    sitk.WriteImage(joined(frames, 1.0), str(tmp_path / "cine.nii"))
    with pytest.raises(FileError, match=r"frame 2, is constant"):
        read_series(tmp_path / "cine.nii")


def test_frames_on_several_grids_and_times_that_do_not_ascend_are_refused(frames):
    with pytest.raises(InputError, match="frame 3 lie on another grid"):
        ImageSeries((*frames[:2], frames[2][1:]))
    with pytest.raises(InputError, match="expected one per frame, ascending"):
        ImageSeries(tuple(frames), (0.0, 2.0, 1.0))
    with pytest.raises(InputError, match="no frames"):
        ImageSeries(())


@pytest.mark.parametrize(("times", "step"), [((0.0, 0.04, 0.08), 0.04), ((0.0, 0.04, 0.1), None), (None, None)])
def test_what_is_written_is_read_again(times, step, frames, tmp_path):
    write_series(frames, tmp_path / "out.nii.gz", ImageSeries(tuple(frames), times))
    found = read_series(tmp_path / "out.nii.gz")
    assert_frames(found, frames)
    assert found.times_s == (None if step is None else pytest.approx((0, step, 2 * step)))
    assert sitk.ReadImage(str(tmp_path / "out.nii.gz")).GetSize() == (*frames[0].GetSize(), PHASES)
