"""Small files in the layouts of the data sets: what the recipes' ``prepare.py`` find at a user's."""

import csv
import shutil
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import read_structures
from Training.recipes.brain.prepare import SOMETIMES
from Training.recipes.regions import read_regions

RECIPES = Path(__file__).parents[2] / "Training" / "recipes"
SIZE = (4, 5, 6)  # voxels z, y, x: room for every label of every data set


def listed(name):
    """The label values of a recipe's regions."""
    return [value for region in read_regions(RECIPES / name / "regions.csv") for value in region.values]


def label_array(values, kind="i2"):
    array = np.zeros(SIZE, kind)
    array.flat[: len(values)] = values
    return array


def image_array():
    return np.arange(np.prod(SIZE)).reshape(SIZE).astype("i2")


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def write_analyze(path, array, *, order="<"):
    """An Analyze 7.5 pair: 348 bytes of .hdr, which know neither origin nor direction, and the voxels in .img."""
    depth, height, width = array.shape
    code = {"u1": 2, "i2": 4}[array.dtype.str[1:]]
    header = bytearray(348)
    struct.pack_into(order + "i", header, 0, 348)  # sizeof_hdr
    struct.pack_into(order + "i", header, 32, 16384)  # extents
    header[38] = ord("r")  # regular
    struct.pack_into(order + "8h", header, 40, 4, width, height, depth, 1, 0, 0, 0)  # dim
    struct.pack_into(order + "2h", header, 70, code, 8 * array.itemsize)  # datatype, bitpix
    struct.pack_into(order + "8f", header, 76, 0, 1, 1, 1, 0, 0, 0, 0)  # pixdim
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header)
    path.with_suffix(".img").write_bytes(array.astype(array.dtype.newbyteorder(order)).tobytes())


def split_file(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("subject", "split"), *rows])


def hippocampus(data):
    folder = data / "Task04_Hippocampus"
    rows = [("hippocampus_001", "train"), ("hippocampus_003", "test")]
    split_file(folder, rows)
    for name, _ in rows:
        write(folder / "imagesTr" / f"{name}.nii.gz", image_array())
        write(folder / "labelsTr" / f"{name}.nii.gz", label_array([1, 2]))


def _oasis(data, kind, values):
    folder = data / "Mindboggle101"
    rows = [("OASIS-TRT-20-4", "train"), ("OASIS-TRT-20-2", "validation")]
    split_file(folder, rows)
    for name, _ in rows:
        mindboggle_subject(folder, name, kind, values)
    for name in ("1101", "1107"):
        write(data / "MICCAI2012" / name / "t1weighted_brain.MNI152Affine.nii.gz", image_array())


def mindboggle_subject(folder, name, kind, values):
    place = folder / f"{name.rpartition('-')[0]}_volumes" / name
    write(place / "t1weighted_brain.MNI152Affine.nii.gz", image_array())
    write(place / f"labels.{kind}.MNI152Affine.nii.gz", label_array(values))


def brain(data):
    values = {s.value for s in read_structures(RECIPES / "brain" / "labels.csv")} - SOMETIMES
    _oasis(data, "DKT31.manual+aseg", sorted(values))


def dkt31():
    """The 62 cortical labels: the regions', the insula's, none that the protocol has dropped."""
    return [v for v in (*listed("mindboggle101"), 1035, 2035) if v % 1000 not in (1, 32, 33)]


def mindboggle101(data):
    _oasis(data, "DKT31.manual", dkt31())


def mindboggle101_with_nki(data):
    for cohort, count in (("NKI-RS-22", 22), ("NKI-TRT-20", 20), ("OASIS-TRT-20", 20)):
        for number in range(1, count + 1):
            mindboggle_subject(data / "Mindboggle101", f"{cohort}-{number}", "DKT31.manual", dkt31())


def acdc_patient(place):
    place.mkdir(parents=True)
    (place / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\n")
    for frame in (1, 12):
        write(place / f"{place.name}_frame{frame:02d}.nii.gz", image_array())
        write(place / f"{place.name}_frame{frame:02d}_gt.nii.gz", label_array([1, 2, 3], "u1"))


def acdc(data):
    rows = [("patient007", "train"), ("patient011", "test")]
    split_file(data / "ACDC", rows)
    for name, _ in rows:
        acdc_patient(data / "ACDC" / name)


def acdc_as_published(data):
    one = data / "patient001"
    acdc_patient(one)
    for number in range(1, 151):
        name = f"patient{number:03d}"
        place = data / "ACDC" / ("training" if number <= 100 else "testing") / name
        place.mkdir(parents=True)
        for file in one.iterdir():
            shutil.copy(file, place / file.name.replace(one.name, name))


def lpba40(data, *, order="<", others=(161, 162, 181, 182)):
    for name in [f"S{n:02d}" for n in range(1, 41)]:
        place = data / "LPBA40" / name
        write_analyze(place / f"{name}.delineation.skullstripped.hdr", image_array(), order=order)
        write_analyze(
            place / f"{name}.delineation.structure.label.hdr",
            label_array([*listed("lpba40"), *others], "u1"),
            order=order,
        )


def lpba40_pairs(data):
    for kind, array in (("", image_array()), ("label_", label_array(listed("lpba40"), "u1"))):
        for i in range(1, 41):
            for j in (29, 30):  # two of the forty spaces
                write_analyze(data / "LPBA40" / f"LPBA40_rigidly_registered_{kind}pairs" / f"l{i}_to_l{j}.hdr", array)
