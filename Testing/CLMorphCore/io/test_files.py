"""A file that cannot be read ends in one line with the true reason; what is whole is read, whatever it is called."""

import bz2
import gzip
import os
import re
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import read_structures
from CLMorphCore.errors import FileError, InputError
from CLMorphCore.io import itk
from CLMorphCore.io.compression import Damaged, Stream
from CLMorphCore.io.files import cannot_read, read_toml
from CLMorphCore.io.images import check_image, read_file, read_image, read_labels, warnings_of, write_image
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.io.transforms import read_affine, read_transform, write_transform


@pytest.fixture
def image():
    made = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 900, (7, 8, 9)).astype(np.int16))
    made.SetSpacing((0.5, 1.5, 2.0))
    return made


@pytest.fixture
def nii(image, tmp_path):
    write_image(image, tmp_path / "a.nii")
    return tmp_path / "a.nii"


def same(found, image):
    return np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))


def test_names_and_packing_need_not_agree(nii, image, tmp_path):
    content = nii.read_bytes()
    (tmp_path / "packed.nii").write_bytes(gzip.compress(content))
    (tmp_path / "plain.nii.gz").write_bytes(content)
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(content[:900]) + gzip.compress(content[900:]))
    (tmp_path / "padded.nii.gz").write_bytes(gzip.compress(content) + bytes(500))
    for name in ("packed.nii", "plain.nii.gz", "two.nii.gz", "padded.nii.gz"):
        found = read_file(tmp_path / name)
        assert same(found, image) and warnings_of(found) == ()


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("packed", [False, True])
def test_bytes_after_the_voxels_are_said_and_are_no_damage(ending, packed, image, tmp_path):
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(image, str(path), useCompression=packed)
    with path.open("ab") as file:
        file.write(b"\r\n--boundary--\r\n")
    found = read_file(path)
    (warning,) = warnings_of(found)
    assert same(found, image) and "16 bytes" in warning and "ignored" in warning


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha", "mgz"])
def test_a_flipped_bit_in_packed_voxels_is_never_read_as_sound(ending, image, nii, tmp_path):
    path = tmp_path / f"a.{ending}"
    if ending == "mgz":
        head = np.array([1, *image.GetSize(), 1, 4, 0], ">i4").tobytes().ljust(284, b"\0")
        path.write_bytes(gzip.compress(head + sitk.GetArrayFromImage(image).astype(">i2").tobytes()))
    else:
        sitk.WriteImage(image, str(path), useCompression=True)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    behind = {"nrrd": b"\n\n", "mha": b"LOCAL\n"}.get(ending)
    start = whole.index(behind) + 12 if behind else 10
    for at in rng.integers(start, len(whole), 60):
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            assert same(read_file(path), image)  # the bit said nothing, as one of the unused ones
        except FileError as error:
            assert "cannot be read" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("kind", "pack"),
    [("", bytes), ("gzip", gzip.compress), ("zlib", zlib.compress), ("bzip2", bz2.compress), ("gzip", zlib.compress)],
)
def test_a_stream_gives_what_was_packed_and_tells_its_end(kind, pack, tmp_path):
    content = os.urandom(3_000_000) + bytes(4_000_000)
    (tmp_path / "a").write_bytes(pack(content))
    with (tmp_path / "a").open("rb") as file:
        stream = Stream(file, kind)
        if kind == "gzip" and pack is zlib.compress:
            with pytest.raises(Damaged, match="is damaged, its packed data is unsound"):
                stream.read(10)
            return
        assert stream.read(1_500_000) == content[:1_500_000] and stream.read(5_500_000) == content[1_500_000:]
        assert stream.finish() == ""
        with pytest.raises(Damaged, match="is cut off, at least"):
            stream.read(1)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_voxels_that_are_packed_a_thousandfold_are_read(ending, tmp_path):
    voxels = np.zeros((160, 150, 140), np.uint8)
    voxels[80, 70, 60] = 1
    image = sitk.GetImageFromArray(voxels)
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"), useCompression=True)
    assert (tmp_path / f"a.{ending}").stat().st_size < voxels.size / 500
    assert same(read_file(tmp_path / f"a.{ending}"), image)


def test_a_small_file_that_claims_much_is_refused_before_memory_is_taken(nii, tmp_path):
    content = bytearray(nii.read_bytes())
    content[42:48] = np.array([800, 800, 800], "<i2").tobytes()
    for name, packed in (("a.nii", bytes(content)), ("b.nii.gz", gzip.compress(bytes(content)))):
        (tmp_path / name).write_bytes(packed)
        code = f"""
import resource, sys
from pathlib import Path
from CLMorphCore.errors import FileError
from CLMorphCore.io.images import read_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_file(Path({str(tmp_path / name)!r}))
except FileError as error:
    assert "is cut off, at least" in str(error), error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    sys.exit(7)
"""
        assert subprocess.run([sys.executable, "-c", code]).returncode == 7


SAID = {
    "lfs.nii.gz": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS.*git lfs pull"),
    "zip.nii": (b"PK\x03\x04" + bytes(99), "is a ZIP archive; expected .*; unpack it"),
    "page.nii.gz": (b"<!DOCTYPE html><html>", "is a web page, perhaps of a download that failed"),
    "scan.par": (b"# === DATA DESCRIPTION", "Philips PAR/REC, which is not read; .*dcm2niix"),
    "scan.HEAD": (b"type = string-attribute", "AFNI, which is not read; .*3dAFNItoNIFTI"),
    "scan.mnc": (b"\x89HDF\r\n\x1a\n" + bytes(80), "MINC, which is not read; .*mnc2nii"),
    "scan.mif": (b"mrtrix image\n", "MRtrix, which is not read; .*mrconvert"),
    "scan.npy": (b"\x93NUMPY" + bytes(80), "an array of NumPy, which has no voxel size"),
    "scan.nii.zst": (b"\x28\xb5\x2f\xfd" + bytes(80), "packed with zstd"),
    "scan.nrrd.gz": (gzip.compress(b"NRRD0004\n"), "packed with gzip as a whole"),
    "text.nii": (b"hello", "it does not begin as a nii file does"),
    "text.xyz": (b"hello", "cannot be read as an image"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_no_image_is_called_what_it_is(name, tmp_path):
    content, said = SAID[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=said) as caught:
        read_file(tmp_path / name)
    assert "0x" not in str(caught.value) and "\n" not in str(caught.value)


READERS = [read_file, read_manifest, read_structures, read_affine, lambda path: read_toml(path, "settings")]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
@pytest.mark.parametrize("read", READERS)
def test_a_file_without_permission_is_said_to_be_so(read, nii, tmp_path):
    (tmp_path / "closed").mkdir()
    nii.rename(tmp_path / "closed" / "a")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(InputError, match=r"cannot be read: no permission to enter .*closed; .*change its perm"):
            read(tmp_path / "closed" / "a")
        (tmp_path / "closed").chmod(0o700)
        (tmp_path / "closed" / "a").chmod(0)
        with pytest.raises(InputError, match=r"cannot be read: no permission; .*change its perm"):
            read(tmp_path / "closed" / "a")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_refused_permission_is_no_missing_file(tmp_path):
    said = str(cannot_read(tmp_path / "a", PermissionError(13, "Permission denied"), "text"))
    assert re.search(r"a cannot be read: no permission; expected text that you may read; change its", said)


@pytest.mark.parametrize("read", READERS)
def test_links_to_nowhere_pipes_sockets_and_long_names_are_said_to_be_so(read, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's name may have 107 bytes
        listening.bind("socket")
        os.chdir(here)
        for name, said in {
            "none": "none`? does not exist|none does not exist",
            "link": "cannot be read: the link points to what does not exist",
            "link/below": "cannot be read: the link .*link points to what does not exist",
            "loop": "cannot be read: Too many levels|symbolic link",
            "pipe": "is a named pipe; expected",
            "socket": "is a socket; expected",
            "x" * 300: "cannot be read: File name too long",
            "nul\0": "cannot be read: .*null",
        }.items():
            with pytest.raises(InputError, match=said) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("address", ["https://a.org/b.nii.gz", "s3://bucket/b.csv"])
def test_an_address_is_called_one_and_is_to_be_downloaded(read, address):
    with pytest.raises(InputError, match=r"is an address; expected .* on this computer; download it first"):
        read(Path(address))


def test_the_fault_of_a_manifests_file_is_said(tmp_path):
    (tmp_path / "link.nii").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "m.csv").write_text("subject,image,split\na,link.nii,train\nb,pipe.nii,train\nc,none.nii,train\n")
    with pytest.raises(FileError) as caught:
        read_manifest(tmp_path / "m.csv")
    for said in ("'a' cannot be read: the link points", "'b' is a named pipe", "'c' not found"):
        assert said in str(caught.value)


@pytest.mark.parametrize("values", [[1e300, 2e300], [1e-320, 2e-320], [2**60, 2**60 + 50], [1e20, 1e20 * (1 + 1e-9)]])
def test_numbers_that_cannot_be_computed_with_are_refused(values):
    kind = np.uint64 if isinstance(values[0], int) else np.float64
    made = sitk.GetImageFromArray(np.resize(np.array(values, kind), (4, 5, 6)))
    with pytest.raises(FileError, match=r"has intensities from .*; expected numbers .*; rescale them"):
        check_image(made, "scan")


def test_labels_beyond_what_integers_hold_are_refused(tmp_path):
    for value in (np.uint64(2**60), np.float64(1e300)):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), value)), str(tmp_path / "a.nrrd"))
        with pytest.raises(FileError, match=r"hold the value .*; expected at most 4294967295"):
            read_labels(tmp_path / "a.nrrd")


# --- ITK in a process of its own


def test_formats_that_only_itk_reads_are_read_by_a_process_of_its_own(image, tmp_path, monkeypatch):
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "a.vtk"))
    started = []
    run = subprocess.run
    monkeypatch.setattr(itk.subprocess, "run", lambda *a, **k: started.append(1) or run(*a, **k))
    found = read_image(tmp_path / "a.vtk")
    assert same(found, image) and found.GetOrigin() == (1, 2, 3) and started
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/SlicerApp-real")  # Python inside another program
    monkeypatch.setattr(sys, "_base_executable", "/opt/Slicer/SlicerApp-real", raising=False)
    assert itk.interpreter() is None and same(read_image(tmp_path / "a.vtk"), image) and len(started) == 1


@pytest.mark.parametrize("ending", ["vtk", "gipl", "tif", "mrc", "h5"])
def test_a_format_that_holds_no_orientation_is_told_of(ending, image, tmp_path):
    turned = sitk.Image(image)
    turned.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    turned.SetOrigin((1, 2, 3))
    sitk.WriteImage(turned, str(tmp_path / f"a.{ending}"))
    found = read_image(tmp_path / f"a.{ending}")
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))
    if ending == "h5":
        assert same(found, turned) and found.GetDirection() == turned.GetDirection() and warnings_of(found) == ()
    else:
        (said,) = warnings_of(found)
        assert "holds no orientation" in said and "left and right may be swapped" in said


def test_a_crash_a_hang_and_noise_of_itk_are_one_line(tmp_path, monkeypatch, capfd):
    (tmp_path / "a.vtk").write_bytes(b"x")
    monkeypatch.setattr(itk, "MIN_SECONDS", 0.3)
    for code, said in (
        ("import os; os.abort()", "ITK breaks off while reading it"),
        ("import time; time.sleep(60)", "ITK does not come to an end"),
        ("import os; os.write(2, b'noise'); print('{\"error\": \"HDF5(0x7f1): no such group\"}')", "no such group"),
    ):
        (tmp_path / "child.py").write_text(code)
        monkeypatch.setattr(itk, "CHILD", tmp_path / "child.py")
        with pytest.raises(FileError, match=said) as caught:
            read_file(tmp_path / "a.vtk")
        assert "0x" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of computing")
def test_itk_that_computes_for_ever_is_ended_by_what_it_computes_and_not_by_the_clock(tmp_path, monkeypatch):
    (tmp_path / "a.vtk").write_bytes(b"x")
    busy = f"""
import sys
sys.path.insert(0, {str(itk.CHILD.parent)!r})
import itk_child
itk_child.CPU_SECONDS = 0.2
itk_child.READERS["image"] = lambda path: all(iter(int, 1)) or [0 for _ in iter(int, 1)]
itk_child.main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""
    (tmp_path / "child.py").write_text(busy)
    monkeypatch.setattr(itk, "CHILD", tmp_path / "child.py")
    with pytest.raises(FileError, match="ITK does not come to an end with it"):
        read_file(tmp_path / "a.vtk")


def test_a_reason_is_the_line_that_tells_and_no_address():
    message = (
        "Exception thrown in SimpleITK ImageFileReader_Execute: Code/IO/src/sitkImageReaderBase.cxx:99:\n"
        "sitk::ERROR: Unable to determine ImageIO reader for X\n"
    )
    assert itk.reason(message) == "Unable to determine ImageIO reader for X"
    assert itk.reason("/tmp/itkA.cxx:12:\nITK ERROR: MetaImageIO(0x55c6): cut") == "cut"
    assert itk.reason("") == "ITK gives no reason"


@pytest.mark.parametrize("ending", ["h5", "mat", "tfm", "txt"])
def test_transforms_are_read_as_they_were_written_and_refused_where_damaged(ending, tmp_path):
    turned = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0))
    path = tmp_path / f"t.{ending}"
    sitk.WriteTransform(turned, str(path))
    for read in (read_affine, read_transform):
        assert read(path).TransformPoint((7.0, 8.0, 9.0)) == pytest.approx(turned.TransformPoint((7.0, 8.0, 9.0)))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(FileError, match=r"cannot be read as a transform \(.*\); expected an ITK transform file"):
        read_affine(path)


def test_a_displacement_field_is_a_transform_and_no_affine(tmp_path):
    field = sitk.DisplacementFieldTransform(sitk.Image(4, 4, 4, sitk.sitkVectorFloat64) + 1.5)
    write_transform(sitk.CompositeTransform([field]), tmp_path / "t.h5")
    assert read_transform(tmp_path / "t.h5").TransformPoint((1.0, 1.0, 1.0)) == pytest.approx((2.5, 2.5, 2.5))
    with pytest.raises(FileError, match="expected a linear 3D transform"):
        read_affine(tmp_path / "t.h5")


@pytest.mark.parametrize(
    ("entry", "said"), [("nan", "not finite|cannot be read"), ("1e30", "or above"), ("0", "no inverse")]
)
def test_an_affine_of_impossible_numbers_is_refused(entry, said, tmp_path):
    text = "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: "
    (tmp_path / "t.tfm").write_text(f"{text}{entry} 0 0 0 1 0 0 0 1 0 0 0\nFixedParameters: 0 0 0\n")
    with pytest.raises(FileError, match=said):
        read_affine(tmp_path / "t.tfm")


def test_nothing_of_the_readers_redirects_the_process(nii):
    before = os.fstat(2)
    read_file(nii)
    assert os.fstat(2) == before
    sources = Path(itk.__file__).parent.glob("*.py")
    assert [path.name for path in sources if "dup2" in path.read_text(encoding="utf-8")] == ["itk_child.py"]


def test_small_file_that_unpacks_to_more_than_one_chunk_is_whole(tmp_path):
    """All of its packed bytes are read at once: those that still wait to be unpacked count as room."""
    array = np.zeros((60, 72, 64), np.float32)  # 1.05 MB of voxels in a few kB
    array[20:40] = np.random.default_rng(0).normal(size=(20, 72, 64))
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "image.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "image.nii.gz")), array)
