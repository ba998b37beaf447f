"""What users give by mistake: a folder of files with one fault each; and what the command has to say to them."""

import re
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from safetensors.torch import save_file

from CLMorphCore.bundles import checkpoint


def make_faulty_files(folder: Path, atlas, phantom, tiny_model: Path) -> None:
    """Every file that the tests of bad input name, into an empty folder."""
    (folder / "folder").mkdir()
    write_images(folder, phantom)
    write_labels(folder, atlas.labels)
    write_models(folder / "models", tiny_model)
    write_transforms(folder)
    write_tables(folder)


def write_images(folder, phantom):
    values = sitk.GetArrayFromImage(phantom.image)
    rng = np.random.default_rng(0)
    write(folder / "scan.nii.gz", phantom.image)
    write(folder / "labels.nii.gz", phantom.labels)
    write(folder / "protocol.nii.gz", phantom.labels * 50)
    write(folder / "4d.nii.gz", sitk.JoinSeries([phantom.image, phantom.image]))
    write(folder / "rgb.nii.gz", sitk.Compose([sitk.Cast(phantom.image, sitk.sitkUInt8)] * 3))
    write(folder / "complex.nii.gz", sitk.RealAndImaginaryToComplex(phantom.image, phantom.image))
    write(folder / "2d.png", sitk.Cast(phantom.image[:, :, 16], sitk.sitkUInt8))
    write(folder / "slice.nii.gz", phantom.image[:, :, 16:17])
    write(folder / "constant.nii.gz", phantom.image * 0 + 7)
    for name, count, value in (("nan", 1, np.nan), ("inf", 2, np.inf)):
        wrong = values.copy()
        wrong[16, 20, :count] = value
        write(folder / f"{name}.nii.gz", sitk.GetImageFromArray(wrong))
    for ending in ("nii", "nii.gz", "nrrd", "mha"):
        file = folder / f"cut.{ending}"
        write(file, phantom.image)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    write(folder / "pair.hdr", phantom.image)
    voxels = folder / "pair.img"
    voxels.write_bytes(voxels.read_bytes()[: voxels.stat().st_size * 3 // 4])
    shear = sitk.Image(phantom.image)
    shear.SetDirection((1, 0, 0, 0, 1, 0.26, 0, 0, 0.966))
    write(folder / "sheared.nrrd", shear)
    huge = sitk.Image(phantom.image)
    huge.SetSpacing([1500.0] * 3)
    write(folder / "huge.nrrd", huge)
    for name in ("M\udcfcller.nii.gz", "letters/\udcfc.dcm"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "empty.nii.gz").write_bytes(b"")
    for name in ("random.nii.gz", "random.h5"):
        (folder / name).write_bytes(rng.bytes(4000))
    (folder / "two").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in (1, 2):
        one_slice = sitk.GetImageFromArray(values[16:17].astype(np.int16))
        one_slice.SetMetaData("0020|000e", f"1.2.3.{number}")
        writer.SetFileName(str(folder / "two" / f"{number}.dcm"))
        writer.Execute(one_slice)


def write_labels(folder, labels):
    """Of the atlas, and what is wrong with them."""
    shifted = sitk.Image(labels)
    shifted.SetOrigin([o + 0.5 for o in labels.GetOrigin()])
    write(folder / "shifted.nii.gz", shifted)
    write(folder / "zero.nii.gz", labels * 0)
    write(folder / "half.nii.gz", sitk.Cast(labels, sitk.sitkFloat32) * 0.5)
    write(folder / "nanlabels.nii.gz", sitk.Cast(labels, sitk.sitkFloat32) / 0.0 * 0.0)
    write(folder / "nan.nrrd", sitk.Cast(labels, sitk.sitkFloat32) / 0.0 * 0.0)
    write(folder / "negative.nii.gz", sitk.Cast(labels, sitk.sitkInt16) - 1)


def write_models(folder, tiny_model):
    for name in ("random", "cut", "empty", "foreign", "shapes", "names", "bare", "card", "alone", "atlas"):
        shutil.copytree(tiny_model, folder / name)
    whole = (tiny_model / "weights.safetensors").read_bytes()
    tensors, header = checkpoint.load(tiny_model / "weights.safetensors")
    first = next(iter(tensors))
    (folder / "random" / "weights.safetensors").write_bytes(np.random.default_rng(1).bytes(4000))
    (folder / "cut" / "weights.safetensors").write_bytes(whole[:-100])
    (folder / "empty" / "weights.safetensors").write_bytes(b"")
    save_file({"layer": torch.zeros(3)}, folder / "foreign" / "weights.safetensors")
    save_file({"layer": torch.zeros(3)}, folder / "bare" / "weights.safetensors", {"format": checkpoint.FORMAT})
    checkpoint.save(folder / "shapes" / "weights.safetensors", tensors | {first: torch.zeros(2, 2)}, header)
    renamed = {("other" if name == first else name): tensor for name, tensor in tensors.items()}
    checkpoint.save(folder / "names" / "weights.safetensors", renamed, header)
    (folder / "card" / "card.toml").write_text("[model\n", encoding="utf-8")
    shutil.rmtree(folder / "alone" / "atlases")
    (folder / "atlas" / "atlases" / "ellipsoids" / "labels.nii.gz").unlink()


def write_transforms(folder):
    for name, transform in {
        "2d.tfm": sitk.Euler2DTransform(),
        "far.tfm": sitk.TranslationTransform(3, (5000.0, 0.0, 0.0)),
        "singular.tfm": sitk.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0]),
        "field.h5": sitk.DisplacementFieldTransform(sitk.Image(4, 4, 4, sitk.sitkVectorFloat64)),
    }.items():
        sitk.WriteTransform(transform, str(folder / name))


def write_tables(folder):
    texts = {
        "fast.toml": "[network]\nname = 'clmorph-pyramid'\nchannels = [4, 8]\n[data]\naffine = false\n"
        "[loss]\nregulariser = 'diffusion'\ncontrast = 0\n[training]\nsteps = 1\nbatch_size = 1\n",
        "broken.toml": "[network\n",
        "one.csv": "value,name\n1,One\n",
        "colour.csv": "value,name,color\n1,One,red\n2,Two,\n3,Three,\n",
        "twice.csv": "value,name\n1,One\n1,Two\n2,Two\n3,Three\n",
        "nameless.csv": "value,name\n1,\n2,Two\n3,Three\n",
        "subjects.csv": manifest("a,scan,labels,train", "b,scan,labels,train"),
        "unlabelled.csv": manifest("a,scan,,train", "b,scan,,train"),
        "single.csv": manifest("a,scan,labels,train", "b,scan,labels,test"),
        "elsewhere.csv": manifest("a,scan,labels,train", "b,scan,shifted,train"),
        "protocol.csv": manifest("a,scan,protocol,test"),
        "below.csv": manifest("site/a,scan,labels,train", ".b,scan,labels,train"),
        "norows.csv": manifest(),
        "faults.csv": manifest(
            "a,scan,,train", "a,scan,,tset", "b,none,,train", "c,,,train", "d,scan,none,train", ",scan,,train"
        ).replace("c,.nii.gz", "c,"),
        "column.csv": "subject,image,lables,split\n",
        "lacking.csv": "subject,image\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def manifest(*rows):
    """CSV of rows 'subject,image,labels,split' whose files are named without their ending."""
    lines = ["subject,image,labels,split"]
    for row in rows:
        subject, image, labels, split = row.split(",")
        lines.append(f"{subject},{image}.nii.gz,{labels and labels + '.nii.gz'},{split}")
    return "\n".join(lines) + "\n"


def write(path, image):
    sitk.WriteImage(image, str(path))


def tree(folder):
    """Everything below a folder, with the sizes of the files."""
    return sorted((str(p.relative_to(folder)), p.is_file() and p.stat().st_size) for p in folder.rglob("*"))


def one_line(ran, *expected):
    """The command ended with one line that holds these expressions, in this order."""
    assert ran.code == 2 and ran.out == "" and ran.err.count("\n") == 1, ran
    assert re.search(".*".join(expected), ran.err), ran.err
