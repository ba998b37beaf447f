"""Every bad input ends in one line that says what was given, what was expected and what to do; nothing is written."""

import json
import re
import resource
import shlex
import shutil
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles import model as models

# verb and options ({bad} is a folder of broken files, -o is added), and what the line must hold, in this order
SEGMENT, OWN = "segment {scan} --model {model}", "segment {scan} --model {model} --atlas {atlas}/image.nii.gz"
TRAIN = "train {bad}/fast.toml --data {bad}/subjects.csv"
CASES = {
    # images
    "4D": ("segment {bad}/4d.nii.gz --model {model}", "4d.nii.gz has 4 dimensions", "expected a 3D image", "extract"),
    "RGB": ("segment {bad}/rgb.nii.gz --model {model}", "rgb.nii.gz", "3 components", "expected one", "convert"),
    "complex": ("segment {bad}/complex.nii.gz --model {model}", "complex", "expected one intensity", "convert"),
    "2D": ("segment {bad}/2d.png --model {model}", "2 dimensions", "expected a 3D image"),
    "one slice": ("segment {bad}/slice.nii.gz --model {model}", r"size \(27, 30, 1\)", "at least 2", "give a volume"),
    "empty file": ("segment {bad}/empty.nii.gz --model {model}", "empty.nii.gz is empty", "expected", "copy"),
    "constant": ("segment {bad}/constant.nii.gz --model {model}", r"constant \(7 everywhere", "expected", "check"),
    "NaN": ("segment {bad}/nan.nii.gz --model {model}", "has 1 voxels that are NaN", "expected finite", "replace"),
    "Inf": ("segment {bad}/inf.nii.gz --model {model}", "has 2 voxels that are NaN or inf", "expected", "replace"),
    "missing": ("segment {bad}/none.nii.gz --model {model}", "none.nii.gz does not exist", "expected an image file"),
    "random bytes": ("segment {bad}/random.nii.gz --model {model}", "cannot be read", "expected", "check"),
    "sheared": ("segment {bad}/sheared.nrrd --model {model}", "sheared axes", "expected axes at right", "resample"),
    "not UTF-8": (
        "segment {bad}/M\udcfcller.nii.gz --model {model}",
        "M.ller.nii.gz holds bytes that are not UTF-8",
        "expected",
        "rename",
    ),
    "not UTF-8 in a series": ("segment {bad}/letters --model {model}", "not UTF-8", "expected", "rename"),
    "wrong units": (
        "register {scan} {bad}/huge.nrrd --model {model} --affine none",
        "mm large",
        "voxels of",
        "expected at most",
        "check the units",
    ),
    "cut NIfTI": ("segment {bad}/cut.nii --model {model}", "cut.nii is cut off", "expected a complete", "copy"),
    "cut NIfTI.gz": ("segment {bad}/cut.nii.gz --model {model}", "cut.nii.gz is cut off", "complete", "copy"),
    "cut pair": ("segment {bad}/pair.hdr --model {model}", "pair.hdr is cut off", "expected a complete", "copy"),
    "cut NRRD": ("segment {bad}/cut.nrrd --model {model}", "cut.nrrd cannot be read", "expected", "check"),
    "cut MetaImage": ("segment {bad}/cut.mha --model {model}", "cut.mha cannot be read", "expected", "check"),
    "no DICOM": ("segment {bad}/folder --model {model}", "holds 0 DICOM series", "expected exactly one", "give"),
    "two series": ("segment {bad}/two --model {model}", "holds 2 DICOM series", "expected exactly one", "give"),
    "register fixed": ("register {bad}/nan.nii.gz {scan} --model {model}", "NaN", "expected", "replace"),
    "register moving": ("register {scan} {bad}/4d.nii.gz --model {model}", "4 dimensions", "expected", "extract"),
    # models
    "unknown model": ("segment {scan} --model hipocampus", "unknown model 'hipocampus'", "expected the name"),
    "no weights": ("segment {scan} --model {bad}/folder", "holds no weights", "expected the folder of a model"),
    "random weights": ("segment {scan} --model {bad}/models/random", "not a complete safetensors", "expected", "copy"),
    "cut weights": ("segment {scan} --model {bad}/models/cut", "not a complete safetensors", "expected", "copy"),
    "empty weights": ("segment {scan} --model {bad}/models/empty", "not a complete safetensors", "expected", "copy"),
    "foreign weights": ("segment {scan} --model {bad}/models/foreign", "another program", "expected clmorph/1"),
    "other shapes": ("segment {scan} --model {bad}/models/shapes", "does not fit", "1 of another shape", "expected"),
    "other names": ("segment {scan} --model {bad}/models/names", "1 tensors missing, 1 unknown", "expected"),
    "no configuration": ("segment {scan} --model {bad}/models/bare", "no configuration", "expected weights"),
    "broken card": ("segment {scan} --model {bad}/models/card", "card.toml cannot be read as TOML"),
    "no atlas": ("segment {scan} --model {bad}/models/alone", "has no atlas", "give one with --atlas"),
    "broken atlas": ("segment {scan} --model {bad}/models/atlas", "labels.nii.gz does not exist", "expected"),
    # an atlas of one's own
    "atlas without labels": (OWN, "--atlas and --atlas-labels go together", "give both"),
    "labels without atlas": ("segment {scan} --model {model} --atlas-labels {atlas}/labels.nii.gz", "give both"),
    "names alone": ("segment {scan} --model {model} --label-names {atlas}/labels.csv", "--label-names", "give"),
    "other grid": (OWN + " --atlas-labels {bad}/shifted.nii.gz", "lie on another grid", "size .* and size", "resample"),
    "fractional": (OWN + " --atlas-labels {bad}/half.nii.gz", "hold fractional", "expected whole", "nearest"),
    "NaN labels": (OWN + " --atlas-labels {bad}/nanlabels.nii.gz", "has .* voxels that are NaN", "expected finite"),
    "NaN in NRRD": (OWN + " --atlas-labels {bad}/nan.nrrd", "hold fractional values or NaN", "expected whole"),
    "negative": (OWN + " --atlas-labels {bad}/negative.nii.gz", "negative value -1", "expected 0 for background"),
    "nothing labelled": (OWN + " --atlas-labels {bad}/zero.nii.gz", "zero.nii.gz are empty", "expected at least one"),
    "unnamed label": (
        OWN + " --atlas-labels {atlas}/labels.nii.gz --label-names {bad}/one.csv",
        r"does not name the labels \[2, 3\]",
        "expected a row",
    ),
    "bad colour": (
        OWN + " --atlas-labels {atlas}/labels.nii.gz --label-names {bad}/colour.csv",
        "label 1 has colour 'red'",
        "expected #rrggbb",
    ),
    "label twice": (
        OWN + " --atlas-labels {atlas}/labels.nii.gz --label-names {bad}/twice.csv",
        "names the label 1 twice",
        "expected one row",
    ),
    "label without name": (
        OWN + " --atlas-labels {atlas}/labels.nii.gz --label-names {bad}/nameless.csv",
        "label 1 has no name",
        "expected",
    ),
    "names not a table": (
        OWN + " --atlas-labels {atlas}/labels.nii.gz --label-names {bad}/random.nii.gz",
        "cannot be read as a table of labels",
        "expected a CSV",
    ),
    # the affine
    "no affine": (SEGMENT + " --affine {bad}/none.tfm", "--affine .*none.tfm does not exist", "expected none, or"),
    "broken affine": (SEGMENT + " --affine {bad}/random.h5", "random.h5 cannot be read as a transform", "expected"),
    "2D affine": (SEGMENT + " --affine {bad}/2d.tfm", "holds a 2D Euler2DTransform", "expected a linear 3D"),
    "field": (SEGMENT + " --affine {bad}/field.h5", "holds a 3D DisplacementField", "expected a linear 3D"),
    "singular": (SEGMENT + " --affine {bad}/singular.tfm", "no inverse", "expected a matrix"),
    "far affine": (SEGMENT + " --affine {bad}/far.tfm", "does not overlap", "expected", "check"),
    "beside": (
        "register {scan} {scan} --model {model} --affine {bad}/far.tfm",
        "does not overlap",
        "expected",
        "check",
    ),
    # how it runs
    "device": (SEGMENT + " --device cuda:7", "--device cuda:7 is not there", "sees .* CUDA devices", "use"),
    "no such device": (SEGMENT + " --device gpu", "--device gpu", "expected auto, cpu", "mps"),
    "threads": (SEGMENT + " --threads 0", "--threads: 0 given", "expected a whole number above zero", "see"),
    "too many threads": (SEGMENT + " --threads 99999999999999", "--threads: 99999999999999 given", "at most 1024"),
    "no such option": (SEGMENT + " --modle x", "unrecognized arguments: --modle x", "see clmorph"),
    "no such verb": ("segmnt {scan}", "'segmnt'", "choose from"),
    "no model": ("segment {scan}", "neither --model nor --atlas is given", "expected a model", "--atlas-labels LABELS"),
    "no model to evaluate": ("evaluate --data {bad}/subjects.csv", "neither --model nor --atlas is given", "expected"),
    "no network": (
        "segment {scan} --effort fast --atlas {atlas}/image.nii.gz --atlas-labels {atlas}/labels.nii.gz",
        "--effort fast .* no --model is given",
        "give one, or omit",
    ),
    # settings
    "no settings": ("train {bad}/none.toml --data {bad}/subjects.csv", "none.toml does not exist", "expected a TOML"),
    "not TOML": ("train {bad}/broken.toml --data {bad}/subjects.csv", "cannot be read as TOML"),
    "misspelt setting": (TRAIN + " --set loss.contrastve=byol", "loss.contrastve", "did you mean contrastive"),
    "misspelt section": (TRAIN + " --set los.contrast=0", "unknown section los", "did you mean loss"),
    "misspelt choice": (
        TRAIN + " --set loss.similarity=ncx",
        "loss.similarity is 'ncx'",
        "expected one of mse, ncc, lncc",
    ),
    "unknown network": (TRAIN + " --set network.name=clmorf", "'clmorf'", "did you mean clmorph"),
    "supervised network": (TRAIN + " --set network.name=unet", "unknown network.name 'unet'", "known: clmorph, "),
    "wrong type": (TRAIN + " --set training.steps=many", "training.steps is 'many'", "expected a whole number"),
    "out of range": (TRAIN + " --set training.batch_size=0", "training.batch_size is 0", "expected .*above zero"),
    "not a setting": (TRAIN + " --set steps=3", "--set steps=3", "expected section.key=value", "for instance"),
    "batch too small": (
        TRAIN + " --set training.batch_size=1 --set loss.contrast=0.1",
        "at least 2 pairs",
        "training.batch_size is 1",
        "raise it or set",
    ),
    "KL without variance": (TRAIN + " --set loss.regulariser=kl", "needs a probabilistic network", "use"),
    # manifests
    "no manifest": ("train {bad}/fast.toml --data {bad}/none.csv", "none.csv does not exist", "expected a CSV"),
    "manifest not CSV": ("train {bad}/fast.toml --data {bad}/random.nii.gz", "cannot be read as CSV|unknown column"),
    "no rows": ("train {bad}/fast.toml --data {bad}/norows.csv", "norows.csv: it has no rows", "expected"),
    "all faults": (
        "train {bad}/fast.toml --data {bad}/faults.csv",
        "subject 'a' appears twice",
        "split 'tset'",
        "train, validation, test",
        "image of subject 'b' not found",
        "subject 'c' has no image",
        "labels of subject 'd' not found",
        "row 6 has no subject",
    ),
    "unknown column": ("train {bad}/fast.toml --data {bad}/column.csv", "'lables'", "did you mean labels"),
    "lacking column": ("train {bad}/fast.toml --data {bad}/lacking.csv", "lacks the column split", "expected subject"),
    "folder without images": ("train {bad}/fast.toml --data {bad}/folder", "holds no images", "expected files ending"),
    "one subject": ("train {bad}/fast.toml --data {bad}/single.csv", "1 subjects with split train", "expected at"),
    "labels elsewhere": ("train {bad}/fast.toml --data {bad}/elsewhere.csv", "lie on another grid", "resample"),
    "broken initial": (TRAIN + " --initial {bad}/models/random/weights.safetensors", "not a complete", "copy"),
    "no checkpoint": (TRAIN + " --resume", "holds no checkpoint", "omit --resume"),
    "nothing to evaluate": ("evaluate --model {model} --data {bad}/subjects.csv", "no labelled subject", "test"),
    "other labels": ("evaluate --model {model} --data {bad}/protocol.csv", "share no value", "expected labels"),
    "nothing to vote on": ("build-atlas --data {bad}/unlabelled.csv", "no subject .* has labels", "needs at least one"),
    "names of some": (
        "build-atlas --data {bad}/subjects.csv --label-names {bad}/one.csv",
        r"\[2, 3\] have no name",
        "add",
    ),
    "subject below": (
        "build-atlas --data {bad}/below.csv --each",
        "subject 'site/a' .*holds /",
        "expected a name",
        "subject '.b' begins with a dot",
    ),
    "demo without atlas": ("demo --model lddmm", "lddmm has no atlas", "expected a model that has one", "see"),
    "each cut": (
        "build-atlas --data {bad}/subjects.csv --each --typical --margin 5",
        "--each and --typical and --margin",
        "takes every subject as it is",
        "omit one of them",
    ),
    "rounds": ("build-atlas --data {bad}/subjects.csv --rounds 0", "--rounds: 0 given", "above zero"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory, atlas, phantom, tiny_model):
    """A folder of everything that the table names."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "folder").mkdir()
    write_images(folder, phantom)
    write_labels(folder, atlas.labels)
    write_models(folder / "models", tiny_model)
    write_transforms(folder)
    write_tables(folder)
    return folder


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


@pytest.mark.parametrize("case", CASES)
def test_ends_in_one_line_and_writes_nothing(case, clmorph, bad, scan, tiny_model, tmp_path):
    command, *expected = CASES[case]
    before = tree(bad)
    places = SimpleNamespace(bad=bad, scan=scan, model=tiny_model, atlas=tiny_model / "atlases" / "ellipsoids")
    ran = clmorph(*shlex.split(command.format(**vars(places))), "-o", tmp_path / "out")
    assert ran.code == 2
    assert ran.out == "" and ran.err.endswith("\n") and ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("clmorph: ") and re.search(".*".join(f"(?:{e})" for e in expected), ran.err), ran.err
    assert list(tmp_path.iterdir()) == [] and tree(bad) == before


def one_line(ran, *expected):
    """The command ended with one line that holds these expressions, in this order."""
    assert ran.code == 2 and ran.out == "" and ran.err.count("\n") == 1, ran
    assert re.search(".*".join(expected), ran.err), ran.err


@pytest.mark.parametrize("output", ["{file}", "{file}/below/out", "/proc/clmorph/out"])
@pytest.mark.parametrize(
    "verb",
    [
        "segment {scan} --model {model}",
        "train {bad}/fast.toml --data {bad}/subjects.csv",
        "evaluate --model {model} --data {bad}/subjects.csv --split train",
        "register {scan} {scan} --model {model}",
        "build-atlas --data {bad}/subjects.csv",
    ],
)
def test_an_unwritable_place_is_found_before_the_work(verb, output, clmorph, bad, scan, tiny_model, tmp_path):
    (tmp_path / "file").write_text("mine")
    words = shlex.split(verb.format(bad=bad, scan=scan, model=tiny_model))
    one_line(
        clmorph(*words, "-o", output.format(file=tmp_path / "file")),
        "cannot write|is a file; expected a folder",
        "choose",
    )
    assert tree(tmp_path) == [("file", 4)] and (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@contextmanager
def full_disk(size):
    """No file can grow beyond ``size`` bytes: writing more fails as on a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [2000, 30_000, 90_000], ids=["labels", "images", "transforms"])
def test_a_full_disk_ends_segment_in_one_line(size, clmorph, scan, tiny_model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.nii.gz").write_text("of an earlier run")
    (tmp_path / "out" / "report.json").write_text('{"model": ""}')
    with full_disk(size):
        ran = clmorph("segment", scan, "--model", tiny_model, "--affine", "none", "-o", tmp_path / "out")
    one_line(ran, "cannot write", "choose a place .* enough space")
    assert tree(tmp_path) == [("out", False), ("out/labels.nii.gz", 17), ("out/report.json", 13)]


@pytest.mark.parametrize(
    "verb",
    [
        "train {bad}/fast.toml --data {bad}/subjects.csv",
        "build-atlas --data {bad}/subjects.csv",
        "evaluate --model {model} --data {bad}/subjects.csv --split train",
    ],
)
def test_a_full_disk_ends_the_other_verbs_in_one_line(verb, clmorph, bad, tiny_model, tmp_path):
    with full_disk(2000):
        ran = clmorph(*shlex.split(verb.format(bad=bad, model=tiny_model)), "-o", tmp_path / "out")
    one_line(ran, "cannot write", "choose a place .* enough space")
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".") or p.suffix in (".gz", ".safetensors")]


def test_a_full_disk_while_training_keeps_the_last_checkpoint(clmorph, bad, tmp_path):
    command = ["train", bad / "fast.toml", "--data", bad / "subjects.csv", "-o", tmp_path / "run"]
    assert clmorph(*command).code == 0
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    with full_disk(len(before) - 100):  # the seconds spent so far are in it, with more or fewer digits
        ran = clmorph(*command, "--resume", "--set", "training.steps=2")
    one_line(ran, "cannot write", "enough space")
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_a_training_is_not_overwritten(clmorph, bad, tmp_path):
    command = ["train", bad / "fast.toml", "--data", bad / "subjects.csv", "-o", tmp_path / "run"]
    assert clmorph(*command).code == 0
    before = tree(tmp_path)
    one_line(clmorph(*command), "holds a training already", "pass --resume")
    one_line(clmorph(*command, "--resume", "--set", "training.seed=5"), "trained with other settings", "same")
    assert tree(tmp_path) == before


def test_a_misspelt_model_gets_a_suggestion(clmorph, scan, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BUNDLED", tiny_model.parent)
    one_line(
        clmorph("segment", scan, "--model", "tinny", "-o", tmp_path / "out"),
        "'tinny'; expected the name or the folder",
        "did you mean tiny",
    )


def test_a_program_reads_the_same_line(clmorph, bad, tiny_model, tmp_path):
    ran = clmorph("segment", bad / "4d.nii.gz", "--model", tiny_model, "-o", tmp_path / "out", "--progress", "json")
    last = json.loads(ran.out.splitlines()[-1])
    assert ran.code == 2 and last["event"] == "error" and ran.err == f"clmorph: {last['message']}\n"
