"""A sound file of every kind that the engine reads, small, and the reader that it is for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

from CLMorphCore.alignment import align
from CLMorphCore.bundles.atlas import read_structures
from CLMorphCore.bundles.config import from_dict, load_config
from CLMorphCore.bundles.model import BUNDLED, load_model, read_card
from CLMorphCore.io.images import read_image, read_labels, write_image
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.io.transforms import read_affine, read_transform
from CLMorphCore.networks import build
from CLMorphCore.quality.score import read_quality
from CLMorphCore.reports.report import Report
from CLMorphCore.training.log import Log
from CLMorphCore.training.loop import save_weights

ALIGNED = ("NIfTI", "NRRD", "MetaImage", "MGZ", "DICOM, multi-frame")  # which are aligned too, unpacked: numbers change
SMALL = {
    "network": {"name": "clmorph-pyramid", "channels": [4, 8], "embedding": 4},
    "loss": {"regulariser": "diffusion"},
}


@dataclass(frozen=True)
class Sample:
    """A sound file: its name, its bytes, what reads the path of such a file, and whether it is text."""

    name: str
    content: bytes
    read: Callable[[Path], Any]
    is_text: bool = False


def samples() -> dict[str, Sample]:
    """A sample of every kind, by its name in the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return images(folder) | transforms(folder) | tables() | bundles(folder)


def phantom() -> sitk.Image:
    """A ball in noise on an oblique grid."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[-7:7, -8:8, -9:9]
    image = sitk.GetImageFromArray((rng.normal(100, 5, x.shape) + 300 * (x**2 + y**2 + z**2 < 30)).astype(np.int16))
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.1, -0.2, 0.3)
    image.SetDirection(turn.GetMatrix())
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-20.0, 10.0, 5.0))
    return image


def images(folder: Path) -> dict[str, Sample]:
    """Image files of every format that the engine's own readers take, and DICOM."""
    image, found = phantom(), {}
    for name, ending, packed in (
        ("NIfTI", ".nii", False),
        ("NIfTI, gzip", ".nii.gz", True),
        ("NRRD", ".nrrd", False),
        ("NRRD, gzip", ".nrrd", True),
        ("MetaImage", ".mha", False),
        ("MetaImage, zlib", ".mha", True),
    ):
        path = folder / f"a{ending}"
        if ".nii" in ending:
            write_image(image, path)
        else:
            sitk.WriteImage(image, str(path), useCompression=packed)
        found[name] = Sample(f"a{ending}", path.read_bytes(), read_image)
    found["labels, NRRD"] = Sample("a.nrrd", found["NRRD, gzip"].content, read_labels)
    found["NIfTI-2"] = Sample("a.nii", nifti_2(found["NIfTI"].content), read_image)
    found["MGZ"] = Sample("a.mgh", mgh(image), read_image)
    found["DICOM, multi-frame"] = Sample("a.dcm", multi_frame(image, folder), read_image)
    for name in ALIGNED:
        found[f"{name}, aligned"] = replace(found[name], read=aligned)
    return found


def aligned(path: Path) -> sitk.Transform:
    """The affine map from an image file to the phantom: what every verb computes first of what it reads."""
    return align(read_image(path), phantom())


def nifti_2(first: bytes) -> bytes:
    """The same image as NIfTI-2."""
    header = np.zeros(544, np.uint8)
    one = {
        "dim": (40, "<8i2"),
        "pixdim": (76, "<8f4"),
        "form": (256, "<6f4"),
        "srow": (280, "<12f4"),
        "kind": (70, "<2i2"),
    }
    values = {name: np.frombuffer(first, kind, 1, at)[0] for name, (at, kind) in one.items()}
    for at, value in (
        (0, np.int32(540)),
        (4, np.frombuffer(b"n+2\0\r\n\x1a\n", np.uint8)),
        (12, values["kind"].astype("<i2")),
        (16, values["dim"].astype("<i8")),
        (104, values["pixdim"].astype("<f8")),
        (168, np.int64(544)),
        (344, np.array([1, 1], "<i4")),
        (352, values["form"].astype("<f8")),
        (400, values["srow"].astype("<f8")),
        (500, np.int32(2)),
    ):
        raw = np.frombuffer(np.asarray(value).tobytes(), np.uint8)
        header[at : at + len(raw)] = raw
    return header.tobytes() + first[352:]


def mgh(image: sitk.Image) -> bytes:
    """The image as MGH, with an identity placement."""
    sides = image.GetSize()
    head = np.array([1, *sides, 1, 4, 0], ">i4").tobytes() + np.array([1], ">i2").tobytes()
    place = np.array([1, 1, 1, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0], ">f4").tobytes()
    return (head + place).ljust(284, b"\0") + sitk.GetArrayFromImage(image).astype(">i2").tobytes()


def multi_frame(image: sitk.Image, folder: Path) -> bytes:
    """The image as one enhanced MR file, a place for each frame."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedMRImageStorage, UID("1.2.3")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("a.dcm", {}, file_meta=meta, preamble=bytes(128))
    columns, rows, frames = image.GetSize()
    axes = np.reshape(image.GetDirection(), (3, 3))
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.4",
        "Modality": "MR",
        "Rows": rows,
        "Columns": columns,
        "NumberOfFrames": frames,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    for name, value in values.items():
        setattr(file, name, value)
    file.SharedFunctionalGroupsSequence = [
        tags(
            PixelMeasuresSequence=[tags(PixelSpacing=[1.5, 1.0], SliceThickness=2.0)],
            PlaneOrientationSequence=[tags(ImageOrientationPatient=[round(float(n), 6) for n in axes.T[:2].ravel()])],
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        tags(
            PlanePositionSequence=[
                tags(ImagePositionPatient=[round(n, 5) for n in image.TransformIndexToPhysicalPoint((0, 0, k))])
            ]
        )
        for k in range(frames)
    ]
    file.PixelData = sitk.GetArrayFromImage(image).astype("<i2").tobytes()
    file.save_as(folder / "a.dcm")
    return (folder / "a.dcm").read_bytes()


def tags(**values: Any) -> Dataset:
    """A dataset of DICOM with these tags."""
    found = Dataset()
    for name, value in values.items():
        setattr(found, name, value)
    return found


def transforms(folder: Path) -> dict[str, Sample]:
    """Transform files of every format, linear and not."""
    affine = sitk.AffineTransform([1, 0.1, 0, -0.1, 1, 0, 0, 0, 0.9], [1, 2, 3])
    field = sitk.DisplacementFieldTransform(sitk.Image(5, 5, 5, sitk.sitkVectorFloat64))
    found = {}
    for name, ending, transform, read in (
        ("transform, .h5", ".h5", affine, read_affine),
        ("transform, .mat", ".mat", affine, read_affine),
        ("transform, .tfm", ".tfm", affine, read_affine),
        ("displacement field, .h5", ".h5", sitk.CompositeTransform([field, affine]), read_transform),
    ):
        path = folder / f"t{ending}"
        sitk.WriteTransform(transform, str(path))
        found[name] = Sample(path.name, path.read_bytes(), read, ending == ".tfm")
    return found


def tables() -> dict[str, Sample]:
    """Tables and settings: text of people."""
    manifest = "subject,image,labels,split,group\n" + "".join(f"s{n},m.csv,,train,g\n" for n in range(20))
    names = "value,name,color,terminology\n" + "".join(f"{n},Part {n},#aa{n:04d},SCT^{n}^P\n" for n in range(1, 30))
    return {
        "manifest": Sample("m.csv", manifest.encode(), read_manifest, True),
        "label names": Sample("labels.csv", names.encode(), read_structures, True),
        "settings": Sample(
            "config.toml",
            (BUNDLED.parents[1] / "Training/recipes/hippocampus/config.toml").read_bytes(),
            load_config,
            True,
        ),
        "card": Sample(
            "card.toml", (BUNDLED / "brain/card.toml").read_bytes(), lambda path: read_card(path.parent), True
        ),
        "quality": Sample(
            "quality.toml", (BUNDLED / "brain/quality.toml").read_bytes(), lambda path: read_quality(path.parent), True
        ),
    }


def bundles(folder: Path) -> dict[str, Sample]:
    """Weights, a training's log, a report."""
    config = from_dict(SMALL)
    save_weights(folder / "w.safetensors", build(config.network.name, config.network.settings), config, step=3)
    log = "".join(json.dumps({"step": n, "loss": 1.5, "seconds": 0.1}) + "\n" for n in range(1, 20))
    report: Mapping[str, Any] = {
        "version": "0.1",
        "image": "a.nii.gz",
        "created": "now",
        "model": {"name": "brain"},
        "atlas": {"name": "average"},
        "device": "cpu",
        "threads": 2,
        "refinement_steps": 0,
        "structures": [{"value": 1, "name": "A", "color": "#aabbcc", "terminology": "", "volume_ml": 1.5}],
        "quality": {"expected_dice": 0.8, "outlier_score": 0.1, "note": ""},
        "similarity": {"measure": "lncc", "affine": 0.3, "warped": 0.6},
        "folding_fraction": 0.0,
        "duration_s": {"affine": 1.0},
        "warnings": [],
    }
    return {
        "weights": Sample(
            "weights.safetensors", (folder / "w.safetensors").read_bytes(), lambda path: load_model(path.parent)
        ),
        "log": Sample("log.jsonl", log.encode(), lambda path: Log(path, keep_below=10).close(), True),
        "report": Sample("report.json", json.dumps(report, indent=1).encode(), Report.read, True),
    }
