"""What a stage was made by is known when a run is gone on with: a plan or splits that changed since are refused."""

import shutil

import pytest
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import Cancelled
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.quality.observations import GENUINE, Observation
from CLMorphCore.training.plan import read_plan
from CLMorphCore.training.stages import ATLAS, BEGINNING
from CLMorphCore.training.workflow import train_scans

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("quick")


def edit(path, *change):
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change), encoding="utf-8")


def stopped(folder, run, at, plan=None):
    """A run that was stopped at the step whose text begins so."""

    def stop(step, fraction):
        if step.startswith(at):
            raise Cancelled

    with pytest.raises(Cancelled):
        train_scans(find_scans(folder), run, minutes=1.0, device=CPU, plan=plan, progress=stop)
    return run


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("plan.toml", ("subjects = 3", "subjects = 2"), "after the atlas was made (atlas.subjects)"),
        ("plan.toml", ("[atlas]", "[atlas]\nmargin_mm = 4"), "after the atlas was made (atlas.margin_mm)"),
        ("plan.toml", ("[atlas]", '[scans]\nleave_out = ["s0"]\n[atlas]'), "training began (scans.leave_out)"),
        ("plan.toml", ("[atlas]", '[start]\nmodel = "brain"\n[atlas]'), "after the training began (start.model)"),
        ("plan.toml", ('flip = "none"\n', ""), "after the training ended (augment.flip)"),
        ("plan.toml", ("[atlas]", '[refinement]\nends = "early"\n[atlas]'), "training ended (refinement.ends)"),
        ("scans.csv", (",test", ",train"), "after the training began (s5 is for train, it was for test)"),
        ("atlas.json", ("{", "{{"), "cannot be read as JSON"),
        ("digests.json", ("{", "{{"), "cannot be read as JSON"),
    ],
)
def test_what_changed_since_a_stage_was_made_is_named(file, change, message, made, folder, clmorph, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    edit(tmp_path / "run" / file, *change)
    (tmp_path / "run" / "report.html").unlink()
    ran = clmorph("train", folder, "-o", tmp_path / "run")
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "run" / "report.html").exists()


def test_the_atlas_settings_of_a_plan_hold_until_the_atlas_is_made(folder, plan_file, clmorph, tmp_path):
    run = stopped(folder, tmp_path / "run", "training 5/", read_plan(plan_file))
    edit(run / "plan.toml", "subjects = 3", "subjects = 2")
    stopped(folder, run, "tissue")
    shares = load_model(run / "model").atlases[0].shares
    assert shares is not None and shares.voters == 2


def test_an_atlas_that_is_deleted_is_made_anew_with_all_that_follows_from_it(made, folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    edit(run / "plan.toml", "subjects = 3", "subjects = 2")
    shutil.rmtree(run / "model" / "atlases" / "average")
    stopped(folder, run, "tissue")
    left = ("model/quality.toml", "model/tissue.toml", "model/picture.png", "validation/summary.json", "report.html")
    assert [name for name in left if (run / name).exists()] == []
    train_scans(find_scans(folder), run, minutes=1.0, device=CPU)
    assert [name for name in left if not (run / name).exists()] == []


def test_a_run_of_an_earlier_version_has_no_such_record_and_goes_on(made, folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    for name in (BEGINNING, ATLAS):
        (run / name).unlink()
    edit(run / "plan.toml", "subjects = 3", "subjects = 2")
    train_scans(find_scans(folder), run, minutes=1.0, device=CPU)


def test_where_no_scan_can_be_judged_the_model_is_made_without_a_quality_score(
    made, folder, clmorph, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (run / "model" / "quality.toml").unlink()
    refused = [Observation("s0", GENUINE, None, None)]
    monkeypatch.setattr("CLMorphCore.training.workflow.genuine_and_corrupted", lambda *_, **__: refused)
    ran = clmorph("train", folder, "-o", run)
    assert ran.code == 0, ran.err
    assert "the model gives no quality score: none of the scans shows any of the structures" in ran.err
    assert not (run / "model" / "quality.toml").exists() and (run / "report.html").exists()


def test_what_may_change_while_it_trains_is_known_at_the_end(folder, plan_file, tmp_path):
    run = stopped(folder, tmp_path / "run", "training 5/", read_plan(plan_file))
    edit(run / "plan.toml", "steps = 8", "steps = 4")  # fewer than were done: it ends at once
    edit(run / "plan.toml", "[atlas]", "[refinement]\nwindow_voxels = 7\n[atlas]")
    stopped(folder, run, "atlas")
    header = checkpoint.load(run / "model" / "weights.safetensors")[1]
    assert header["config"]["training"]["steps"] == 4 and header["config"]["refinement"]["window_voxels"] == 7
    stopped(folder, run, "tissue")


def test_a_run_that_was_moved_goes_on(folder, plan_file, tmp_path):
    stopped(folder, tmp_path / "run", "training 5/", read_plan(plan_file)).rename(tmp_path / "moved")
    stopped(folder, tmp_path / "moved", "training 7/")
