"""Every bad input ends in one line that says what was given, what was expected and what to do; nothing is written."""

import json
import re
import shlex
from types import SimpleNamespace

import pytest
from made_up_faults import one_line, tree

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
    "NaN": ("segment {bad}/nan.nii.gz --model {model}", "has 1 voxel that is NaN", "expected finite", "replace"),
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
    "one subject": ("train {bad}/fast.toml --data {bad}/single.csv", "1 subject with split train", "expected at"),
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
