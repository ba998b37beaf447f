"""From a folder of scans to a model in one command, which goes on wherever it was stopped."""

import html
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.atlas import read_structures
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import Cancelled, InputError
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.io.manifest import read_manifest
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.training.plan import read_plan
from CLMorphCore.training.workflow import RESULTS, train_scans

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("quick")


def test_everything_is_made_and_the_model_segments(made, folder):
    assert [name for name in RESULTS if not (made / name).exists()] == []
    assert [(s.name, s.split) for s in read_manifest(made / "scans.csv")][3:] == [
        *(("s3", "validation"), ("s4", "validation"), ("s5", "test"))
    ]
    model = load_model(made / "model")
    assert [s.name for s in model.atlases[0].structures] == ["First part", "Second part", "Label 3"]
    assert model.about("training_data") == "3 images, 8 steps"
    assert model.refinement.gain is not None and model.refinement.on == (model.refinement.gain >= 0.005)
    assert model.card["accuracy"]["test"]["subjects"] == 1 and model.card["accuracy"]["test"]["dice"] > 0.5
    page = html.unescape((made / "report.html").read_text(encoding="utf-8"))
    assert "1 scan, affine only" in page and page.count(" ± 0.") == 1, "of one scan there is no deviation"


def test_the_same_call_goes_on_after_every_stop_and_ends_in_the_same_model(made, folder, plan_file, tmp_path):
    run = tmp_path / "run"
    stops = ("looking at s3", "reference: round 2", "preparing 4", "training 5/", "atlas: round 2", "tissue")
    for stop in (*stops, "quality: s1", "validation: s4", "test: s5"):

        def progress(step, fraction, stop=stop):
            if step.startswith(stop):
                raise Cancelled

        before = {p: p.stat().st_mtime_ns for p in run.rglob("*.*") if p.name not in ("log.jsonl", "card.toml")}
        with pytest.raises(Cancelled):
            train_scans(find_scans(folder), run, minutes=1.0, device=CPU, plan=read_plan(plan_file), progress=progress)
        changed = [p.name for p, time in before.items() if not p.exists() or p.stat().st_mtime_ns != time]
        assert set(changed) <= {"checkpoint.safetensors", "weights.safetensors"} or stop == "training 5/"
        assert not list(run.rglob(".clmorph*"))
    train_scans(find_scans(folder), run, minutes=1.0, device=CPU)
    for name in RESULTS:
        assert (run / name).exists(), name
    for name in ("model/tissue.toml", "scans.csv"):
        assert (run / name).read_bytes() == (made / name).read_bytes(), name
    # Of weights the tensors: the order of what the file's header says is not fixed.
    again, once = (checkpoint.load(one / "model" / "weights.safetensors")[0] for one in (run, made))
    assert again.keys() == once.keys() and all(torch.equal(again[key], once[key]) for key in once)


def test_progress_only_grows(made, folder, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    for name in ("model/quality.toml", "model/tissue.toml", "test/summary.json"):
        (tmp_path / "run" / name).unlink()
    told = []
    train_scans(find_scans(folder), tmp_path / "run", minutes=1.0, device=CPU, progress=lambda s, f: told.append(f))
    assert told == sorted(told) and min(told) >= 0 and max(told) <= 1


def test_one_labelled_scan_is_enough_for_an_atlas_with_every_structure(folder, plan_file, clmorph, tmp_path):
    for n in range(4):
        shutil.copy(folder / f"s{n}.nii.gz", tmp_path / f"s{n}.nii.gz")
    shutil.copy(folder / "s1_labels.nii.gz", tmp_path / "elsewhere.nrrd.nii.gz")
    (tmp_path / "scans.txt").write_text("".join(f"s{n}.nii.gz\n" for n in range(4)))
    given = f"{tmp_path / 's1.nii.gz'}={tmp_path / 'elsewhere.nrrd.nii.gz'}"
    words = ("train", tmp_path / "scans.txt", "-o", tmp_path / "run", "--plan", plan_file, "--labels-for", given)
    ran = clmorph(*words)
    assert ran.code == 0, ran.err
    assert "all scans: 1 labelled scan: none is held out, and how good the model is stays unknown" in ran.out
    model = load_model(tmp_path / "run" / "model")
    assert [s.value for s in model.atlases[0].structures] == [1, 2, 3]
    shares = model.atlases[0].shares
    assert shares is not None and shares.voters == 3  # as the plan says: two by what the only labelled one lends them
    assert not model.tissue.on and not model.refinement.on, "nothing was measured, voters are few and noise is little"
    assert not (tmp_path / "run" / "model" / "quality.toml").exists() and not (tmp_path / "run" / "test").exists()
    carried = clmorph("segment", folder / "s5.nii.gz", "--model", tmp_path / "run" / "model", "-o", tmp_path / "out")
    assert carried.code == 0, carried.err
    found, truth = (sitk.ReadImage(str(p)) for p in (tmp_path / "out" / "labels.nii.gz", folder / "s5_labels.nii.gz"))
    assert np.mean(list(dice_per_label(found, truth).values())) > 0.5


def test_without_any_label_a_network_is_trained_and_said_to_have_no_atlas(folder, plan_file, clmorph, tmp_path):
    for n in range(3):
        shutil.copy(folder / f"s{n}.nii.gz", tmp_path / f"s{n}.nii.gz")
    ran = clmorph("train", tmp_path, "-o", tmp_path / "run", "--plan", plan_file)
    assert ran.code == 0 and "no scan is labelled" in ran.err
    assert load_model(tmp_path / "run" / "model").atlases == ()


@pytest.fixture
def faulty(folder, tmp_path):
    """Scans of one organ and, among them, one that is cut off, one twice, one in other units and one without sense."""
    place = tmp_path / "data"
    place.mkdir()
    for n in range(4):
        shutil.copy(folder / f"s{n}.nii.gz", place / f"s{n}.nii.gz")
    (place / "cut.nii.gz").write_bytes((place / "s0.nii.gz").read_bytes()[:9000])
    shutil.copy(place / "s1.nii.gz", place / "z-twice.nii.gz")
    small = sitk.ReadImage(str(place / "s2.nii.gz")) + 1
    small.SetSpacing([0.15] * 3)
    sitk.WriteImage(small, str(place / "small.nii.gz"))
    return place


def test_a_plan_names_what_is_wrong_with_any_scan_and_writes_why(faulty, clmorph, tmp_path):
    ran = clmorph("plan", faulty, "-o", tmp_path / "plan.toml", "--minutes", "5")
    assert ran.code == 0, ran.err
    for name, what in (("cut", "cannot be used"), ("z-twice", "a duplicate"), ("small", "other units")):
        assert any(line.startswith(f"{name}: ") and what in line for line in ran.out.splitlines()), name
    plan = read_plan(tmp_path / "plan.toml")
    assert set(plan.left_out) == {"cut", "z-twice", "small"} and plan.config.training.minutes <= 5
    again = clmorph("plan", faulty, "-o", tmp_path / "plan.toml")
    assert again.code == 2 and "is there already" in again.err


def test_a_plan_decides_what_is_used_but_not_what_can_be_read(faulty, plan_file, clmorph, tmp_path):
    (tmp_path / "mine.toml").write_text(plan_file.read_text(encoding="utf-8") + '[scans]\nleave_out = ["small"]\n')
    ran = clmorph("train", faulty, "-o", tmp_path / "run", "--plan", tmp_path / "mine.toml")
    assert ran.code == 2 and "the plan uses scans that cannot be used (cut: " in ran.err
    (tmp_path / "mine.toml").write_text(plan_file.read_text(encoding="utf-8") + '[scans]\nleave_out = ["nobody"]\n')
    ran = clmorph("train", faulty, "-o", tmp_path / "run", "--plan", tmp_path / "mine.toml")
    assert ran.code == 2 and "leaves out nobody, which the data lack" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("4.0, 4.0, 4.0", "400, 400, 400"), "data.spacing_mm is 400 × 400 × 400 mm in the plan, by which the scans'"),
        (("4.0, 4.0, 4.0", "0.01, 0.01, 0.01"), "expected 4 or more along each side, 1.3e+08 in all"),
        (("[atlas]", '[scans]\nleave_out = ["s0", "s1"]\n[atlas]'), "1 of 4 scans are for training, 2 for validation"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_is_written(
    change, message, folder, plan_file, clmorph, tmp_path
):
    (tmp_path / "mine.toml").write_text(plan_file.read_text(encoding="utf-8").replace(*change))
    ran = clmorph("train", folder, "-o", tmp_path / "run", "--plan", tmp_path / "mine.toml")
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_results_are_not_written_among_the_scans_that_the_next_call_finds(faulty, plan_file, clmorph):
    ran = clmorph("train", faulty, "-o", faulty, "--plan", plan_file)
    assert ran.code == 2 and "is the folder of the scans and --output" in ran.err
    assert not (faulty / "plan.toml").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no scan"),
        (["s0"], "1 scan can be trained on; expected at least 2"),
        (["s0", "cut"], r"1 scan can be trained on (cut: cannot be used"),
    ],
)
def test_too_little_is_said_in_one_line_and_nothing_is_written(names, message, faulty, clmorph, tmp_path):
    place = tmp_path / "few"
    place.mkdir()
    for name in names:
        shutil.copy(faulty / f"{name}.nii.gz", place / f"{name}.nii.gz")
    for verb, output in (("plan", "p.toml"), ("train", "run")):
        ran = clmorph(verb, place, "-o", tmp_path / output)
        assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1
        assert not (tmp_path / output).exists()


def test_another_training_in_the_folder_is_not_gone_on_with(made, folder, faulty, clmorph, tmp_path, plan_file):
    shutil.copytree(made, tmp_path / "run")
    ran = clmorph("train", faulty, "-o", tmp_path / "run")
    assert ran.code == 2 and "holds a training of other scans" in ran.err
    (tmp_path / "mine.toml").write_text(plan_file.read_text(encoding="utf-8").replace("steps = 8", "steps = 9"))
    ran = clmorph("train", folder, "-o", tmp_path / "run", "--plan", tmp_path / "mine.toml")
    assert ran.code == 2 and "by another plan" in ran.err
    for change in (("subjects = 3", "subjects = 2"), ("[atlas]", '[scans]\nleave_out = ["s0"]\n[atlas]')):
        (tmp_path / "mine.toml").write_text(plan_file.read_text(encoding="utf-8").replace(*change))
        ran = clmorph("train", folder, "-o", tmp_path / "run", "--plan", tmp_path / "mine.toml")
        what = "atlas.subjects" if "subjects" in change[0] else "scans.leave_out"
        assert ran.code == 2 and f"by another plan, its plan.toml ({what} differ)" in ran.err
    text = plan_file.read_text(encoding="utf-8").replace("steps = 8", "steps = 9").replace("width = 8", "width = 6")
    text = text.replace("embedding = 8", "embedding = 4").replace("subjects = 3", "subjects = 2")
    (tmp_path / "mine.toml").write_text(text)
    ran = clmorph("train", folder, "-o", tmp_path / "run", "--plan", tmp_path / "mine.toml")
    assert "its plan.toml (network.width, network.embedding, training.steps … differ)" in ran.err
    own = (tmp_path / "run" / "plan.toml").read_text(encoding="utf-8")
    (tmp_path / "run" / "plan.toml").write_text(own.replace("steps = 8", "steps = 9"))
    ran = clmorph("train", folder, "-o", tmp_path / "run")
    assert ran.code == 2 and "plan.toml was changed after the training ended (training.steps)" in ran.err
    (tmp_path / "run" / "plan.toml").unlink()
    ran = clmorph("train", folder, "-o", tmp_path / "run")
    assert ran.code == 2 and "is there already" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "{plan}", "--minutes", "5"], "--minutes and --plan were given"),
        (["--resume"], "--resume belong to a training of a network alone"),
        (["--set", "training.steps=3", "--tensorboard"], "--set and --tensorboard belong"),
        (["--data", "{folder}", "--minutes", "5"], "--minutes belong to a training of scans"),
        (["--minutes", "0"], "expected a number of minutes above zero"),
        (["--plan", "{endless}"], "training.minutes is 0 and training.steps 1000000; expected minutes above zero"),
        (["--minutes", "nan"], "expected a number of minutes above zero"),
        (["--labels-for", "a.nii.gz"], "expected IMAGE=LABELS, two files"),
        (["--labels-for", "a.nii.gz=b.nii.gz"], "which is not among the 6 scans"),
        (["--label-names", "{plan}"], "cannot be read as a table of labels"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(words, message, folder, plan_file, clmorph, tmp_path):
    endless = tmp_path / "endless.toml"
    endless.write_text("[training]\nminutes = 0.0\nsteps = 1000000\n")
    given = [word.format(plan=plan_file, folder=folder, endless=endless) for word in words]
    ran = clmorph("train", folder, "-o", tmp_path / "run", *given)
    assert ran.code == 2 and message in ran.err and not (tmp_path / "run").exists()


def test_settings_without_scans_are_told_apart(plan_file, clmorph, tmp_path):
    ran = clmorph("train", plan_file, "-o", tmp_path / "run")
    assert ran.code == 2 and "is a file of settings, and no scans are given" in ran.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s, folder: [*s, replace(s[0], name="s9", image=folder / "s1_labels.nii.gz")], "s9 is new"),
        (lambda s, folder: [replace(s[0], labels=s[1].labels), *s[1:]], "the labels of s0 are .*s1_labels"),
        (lambda s, folder: [replace(s[0], labels=None), *s[1:]], "the labels of s0 are gone"),
        (lambda s, folder: [replace(s[0], split="test"), *s[1:]], "s0 is for test, not for train"),
    ],
)
def test_scans_that_changed_since_a_training_began_are_not_passed_over(change, said, made, folder, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    collection = find_scans(folder)
    train_scans(collection, tmp_path / "run", minutes=1.0, device=CPU)
    changed = replace(collection, subjects=tuple(change(list(collection.subjects), folder)))
    with pytest.raises(InputError, match=said):
        train_scans(changed, tmp_path / "run", minutes=1.0, device=CPU)


def test_voxels_that_changed_under_their_name_are_named_and_a_touched_file_is_not(made, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    shutil.copytree(made, tmp_path / "run")
    table = (tmp_path / "run" / "scans.csv").read_text(encoding="utf-8")
    (tmp_path / "run" / "scans.csv").write_text(table.replace(str(folder), str(tmp_path / "data")))
    (tmp_path / "data" / "s0.nii.gz").touch()
    train_scans(find_scans(tmp_path / "data"), tmp_path / "run", minutes=1.0, device=CPU)
    for name in ("s1.nii.gz", "s4_labels.nii.gz"):
        image = sitk.ReadImage(str(tmp_path / "data" / name))
        sitk.WriteImage(sitk.Flip(image, (True, False, False)), str(tmp_path / "data" / name))
    with pytest.raises(InputError, match=r"the voxels of .*s1.nii.gz, .*s4_labels.nii.gz are other ones than when"):
        train_scans(find_scans(tmp_path / "data"), tmp_path / "run", minutes=1.0, device=CPU)


def test_a_header_that_changed_is_named(made, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    shutil.copytree(made, tmp_path / "run")
    table = (tmp_path / "run" / "scans.csv").read_text(encoding="utf-8")
    (tmp_path / "run" / "scans.csv").write_text(table.replace(str(folder), str(tmp_path / "data")))
    image = sitk.ReadImage(str(tmp_path / "data" / "s0.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / "data" / "s0.nii.gz"), useCompression=False)
    train_scans(find_scans(tmp_path / "data"), tmp_path / "run", minutes=1.0, device=CPU)
    image.SetSpacing([1.0, 1.0, 1.0])
    sitk.WriteImage(image, str(tmp_path / "data" / "s0.nii.gz"))
    with pytest.raises(InputError, match=r"spacing, origin or axes in the header of .*s0.nii.gz are other ones"):
        train_scans(find_scans(tmp_path / "data"), tmp_path / "run", minutes=1.0, device=CPU)


def test_what_a_finished_training_does_not_take_up_is_said(made, folder, clmorph, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "names.csv").write_text("value,name\n1,Other part\n2,Second part\n")
    ran = clmorph("train", folder, "-o", tmp_path / "run", "--label-names", tmp_path / "names.csv", "--minutes", "9")
    assert ran.code == 0 and "whose minutes hold" in ran.out
    assert "the atlas is made and keeps its names (1 First part); change them in" in ran.err


def test_a_scan_in_two_splits_is_named_before_training_also_where_the_plan_keeps_it(folder, plan_file, tmp_path):
    collection = find_scans(folder)
    twice = replace(collection.subjects[0], name="other", image=tmp_path / "other.nii.gz", labels=None, split="test")
    shutil.copy(collection.subjects[0].image, twice.image)
    both = replace(collection, subjects=(*collection.subjects, twice))
    told = told_before_training(both, tmp_path / "run", plan=read_plan(plan_file))
    assert any(
        str(f).startswith("other: has the same voxels as s0: a duplicate among splits (test and train)") for f in told
    )


def test_names_that_do_not_fit_the_labels_are_told_before_training(folder, plan_file, tmp_path):
    (tmp_path / "names.csv").write_text("value,name\n0,Background\n1,First part\n7,First part\n")
    how = {"plan": read_plan(plan_file), "structures": read_structures(tmp_path / "names.csv")}
    said = [finding.text for finding in told_before_training(find_scans(folder), tmp_path / "run", **how)]
    assert "no name is given for the labels 2, 3, whose values stand in for one" in said
    assert "2 labels are called 'First part': nothing tells them apart but their values" in said
    assert "names are given for the label 7, which no scan has" in said


@pytest.mark.parametrize("labelled", [True, False])
def test_a_plan_says_what_labels_will_serve_for_as_a_training_does(labelled, folder, plan_file, clmorph, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    for n in range(3):
        shutil.copy(folder / f"s{n}.nii.gz", place / f"s{n}.nii.gz")
        if labelled:
            shutil.copy(folder / f"s{n}_labels.nii.gz", place / f"s{n}_labels.nii.gz")
    said = (
        "all scans: 3 labelled scans: none is held out, and how good the model is stays unknown"
        if labelled
        else "all scans: no scan is labelled: the model registers, and labels with an atlas that is given to it"
    )
    planned = clmorph("plan", place, "-o", tmp_path / "plan.toml", "--minutes", "5")
    assert planned.out.splitlines().count(said) == 1, planned.err
    told = told_before_training(find_scans(place), tmp_path / "run", minutes=5)
    assert [str(finding) for finding in told].count(said) == 1


def test_scans_in_other_units_are_one_line_before_the_plan(folder, clmorph, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    for name in (f"s{n}{kind}.nii.gz" for n in range(3) for kind in ("", "_labels")):
        image = sitk.ReadImage(str(folder / name))
        image.SetSpacing([1000 * mm for mm in image.GetSpacing()])
        image.SetOrigin([1000 * mm for mm in image.GetOrigin()])
        sitk.WriteImage(image, str(place / name))
    ran = clmorph("plan", place, "-o", tmp_path / "plan.toml", "--minutes", "5")
    lines = [line for line in ran.out.splitlines() if "check the unit of its voxel size" in line]
    assert len(lines) == 1 and lines[0].startswith("all scans: of 3 scans (s0, s1, s2) is said: the scan is 5.28e+04 ×")
    assert ran.out.index(lines[0]) < ran.out.index("the plan for") and ran.err == ""
    (tmp_path / "plan.toml").unlink()
    ran = clmorph("plan", place, "-o", tmp_path / "plan.toml", "--minutes", "5", "--progress", "json")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert any(e["event"] == "finding" and e["text"] == lines[0] for e in events)


def test_labels_that_no_name_tells_are_named_once(folder, clmorph, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    for n in range(3):
        shutil.copy(folder / f"s{n}.nii.gz", place / f"s{n}.nii.gz")
    shutil.copy(folder / "s0_labels.nii.gz", place / "s0_ground truth.nii.gz")
    ran = clmorph("plan", place, "-o", tmp_path / "plan.toml", "--minutes", "5")
    assert ran.out.count("s0_ground truth: looks like a label map") == 1 and ran.err == ""


def told_before_training(collection, run, *, minutes=1.0, **how):
    """The findings of a training that is stopped as soon as it begins."""
    told = []

    def stop(step, _):
        if step.startswith("reference"):
            raise Cancelled

    with pytest.raises(Cancelled):
        train_scans(collection, run, minutes=minutes, device=CPU, tell=told.append, progress=stop, **how)
    return told
