"""Fitting and measuring the quality score, from a manifest to figures."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import ellipsoid_atlas, fresh_model

from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import InputError
from CLMorphCore.io.manifest import Subject
from CLMorphCore.quality import fitting
from CLMorphCore.quality.evidence import CHECKS, FEATURES, Evidence
from CLMorphCore.quality.fitting import leave_one_out
from CLMorphCore.quality.observations import GENUINE, Observation
from CLMorphCore.quality.score import fit, read_quality
from Training.quality import __main__ as command
from Training.quality import table
from Training.quality.measure import correlation, figures


@pytest.fixture(scope="module")
def atlas():
    return ellipsoid_atlas((24, 27, 21), 2.0)


@pytest.fixture(scope="module")
def atlas_model(atlas, tmp_path_factory):
    return fresh_model(tmp_path_factory.mktemp("models") / "fresh", atlas)


def observed(subject, kind, level, dice, odd=0.0):
    return Observation(
        subject,
        kind,
        Evidence((1, 2), np.full((2, len(FEATURES)), level), np.full(len(CHECKS), 0.5 - odd)),
        None if dice is None else np.array([dice, dice - 0.2]),
    )


@pytest.fixture
def cases():
    """Eight subjects whose evidence tells their Dice, and a corrupted scan of each."""
    return [
        one
        for n in range(8)
        for one in (
            observed(f"s{n}", GENUINE, n / 8, 0.6 + n / 25, odd=0.001 * n),
            observed(f"s{n}", "noise", -3.0, None, odd=0.4),
        )
    ]


def test_correlation_and_flags_of_subjects_leave_one_out(cases):
    table = figures(leave_one_out("average", cases))
    assert table["spearman"] > 0.9 and table["subjects"] == 8 and abs(table["mean_error"]) < 0.02
    assert table["flagged: noise"] == table["flagged"] == 1.0 and table["false alarms"] < 0.3


def test_a_subject_has_no_part_in_the_fit_it_is_measured_with(cases):
    changed = [*cases]
    changed[0] = observed("s0", GENUINE, 0.0, 0.95)
    before, after = ({s.subject: q for q, s in leave_one_out("average", some)} for some in (cases, changed))
    assert before["s0"] == after["s0"] and before["s1"] != after["s1"]


def unlabelled(cases):
    """Observations whose labels show none of the structures."""
    return [replace(s, dice=None if s.dice is None else np.full(2, np.nan)) for s in cases]


def test_without_labels_nothing_is_fitted_or_calibrated(cases):
    for some in (unlabelled(cases), [replace(s, dice=None) for s in cases]):
        for make in (partial(fitting.fit, "average"), partial(fitting.calibrated, fitting.fit("average", cases))):
            with pytest.raises(InputError, match="none of the scans shows any of the structures"):
                make(some)


def test_one_labelled_subject_cannot_be_left_out(cases):
    some = [*cases[:2], *unlabelled(cases[2:])]
    assert set(fitting.fit("average", some).usual) == {1, 2}
    with pytest.raises(InputError, match="s0 is the only subject with labels; expected two or more"):
        leave_one_out("average", some)


def test_one_scan_does_not_tell_how_scans_differ(cases):
    """Neither is a fit made of one, nor one left out of two."""
    genuine = [s for s in cases if s.kind == GENUINE]
    for some in (genuine[:1], [s for s in cases if s.subject == genuine[0].subject]):
        with pytest.raises(InputError, match="one scan alone could be registered; expected two or more"):
            fitting.fit("average", some)
    with pytest.raises(InputError, match="two scans could be registered; expected three or more, to leave each out"):
        leave_one_out("average", genuine[:2])
    assert len(leave_one_out("average", genuine[:3])) == 3


def test_scans_without_labels_serve_for_the_checks_where_validation_alone_is_labelled(cases):
    labelled = [replace(s, split="validation") for s in cases if s.kind == GENUINE]
    more = [replace(observed(f"u{n}", GENUINE, 0.0, None, odd=0.1 * n), split="train") for n in range(8)]
    quality, alone = fitting.fit("average", [*more, *labelled]), fitting.fit("average", labelled)
    assert quality.usual == alone.usual and quality.reach == alone.reach
    expected = np.mean([s.evidence.case for s in (*more, *labelled)], axis=0)
    assert quality.checks == pytest.approx(expected)


def test_a_fit_that_knows_no_deviations_is_not_calibrated(cases):
    """Fits from before the intervals have none, and a file that was changed by hand may lack one."""
    quality = fitting.fit("average", cases)
    with pytest.raises(InputError, match="tells no deviation of structure 1, 2; expected one of every structure"):
        fitting.calibrated(replace(quality, deviation={}), cases)
    with pytest.raises(InputError, match="tells no deviation of structure 2;"):
        fitting.calibrated(replace(quality, deviation={1: 0.3}), cases)


def test_a_case_that_the_engine_refuses_counts_as_flagged(cases):
    pairs = leave_one_out("average", [*cases, Observation("s0", "wrong organ", None, None)])
    assert figures(pairs)["flagged: wrong organ"] == 1.0


def test_a_missing_structure_is_left_out_of_the_correlation(cases):
    quality = fit("average", [(s.evidence, s.dice) for s in cases if s.kind == GENUINE])
    whole = [(quality, s) for s in cases if s.kind == GENUINE]
    gap = [*whole, (quality, observed("x", GENUINE, 0.9, 0.1))]
    gap[-1][1].dice[:] = np.nan
    assert correlation(gap) == correlation(whole)


def test_what_is_expected_is_compared_with_the_structures_that_a_subject_has(cases):
    quality = fit("average", [(one.evidence, one.dice) for one in cases if one.dice is not None])
    (first, *_) = cases
    half = replace(first, dice=np.array([np.nan, first.dice[1]]))
    expected = quality.expected_dice(first.evidence)[2]
    assert figures([(quality, half)])["mean_error"] == pytest.approx(expected - first.dice[1], abs=1e-3)


@pytest.mark.parametrize("option", ["--most", "--corrupt-every", "--threads"])
def test_numbers_are_above_zero(option, capsys):
    with pytest.raises(SystemExit):
        command.main(["measure", "--model", "heart", "--data", "none.csv", option, "0"])
    assert "0 given, expected a whole number above zero" in capsys.readouterr().err


def test_the_command_fits_and_measures(atlas_model, atlas, tmp_path, monkeypatch, capsys):
    rows = ["subject,image,labels,split"]
    for seed in range(3):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        sitk.WriteImage(phantom.image, str(tmp_path / f"{seed}.nii.gz"))
        sitk.WriteImage(phantom.labels, str(tmp_path / f"{seed}-labels.nii.gz"))
        rows.append(f"s{seed},{seed}.nii.gz,{seed}-labels.nii.gz,{'validation' if seed == 2 else 'train'}")
    (tmp_path / "data.csv").write_text("\n".join(rows), encoding="utf-8")
    words = ["--model", str(atlas_model), "--data", str(tmp_path / "data.csv")]
    to_file = ["--split", "validation", "--figures", str(tmp_path / "f.json")]
    monkeypatch.setattr(sys, "argv", ["quality", "fit", *words, "--spoil-every", "4"])
    assert command.main() == 0
    fitted = read_quality(atlas_model)
    assert set(fitted.usual) == {1, 2}
    monkeypatch.setattr(sys, "argv", ["quality", "calibrate", *words, "-o", str(tmp_path / "quality.toml")])
    assert command.main() == 0
    again = read_quality(tmp_path)
    assert again.usual == fitted.usual and again.weights == fitted.weights and again.limit == fitted.limit
    assert again.shift == pytest.approx(fitted.shift, abs=0.2) and again.reach > 0  # the same subject, another noise
    monkeypatch.setattr(sys, "argv", ["quality", "measure", *words, "--corrupt-every", "4", *to_file])
    assert command.main() == 0
    table = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert table["subjects"] == 1 and table["flagged: failed affine"] == 1.0
    assert json.loads(capsys.readouterr().out.split("validation")[-1].split("s2\n")[-1]) == table


def test_bad_input_is_one_line(atlas_model, tmp_path, capsys):
    manifest = tmp_path / "data.csv"
    manifest.write_text("subject,image,labels,split\na,a.nii.gz,,train\n", encoding="utf-8")
    (tmp_path / "a.nii.gz").touch()
    for model, told in ((atlas_model, "no subject with the split test"), ("lddmm", "lddmm has no atlas of its own")):
        assert command.main(["measure", "--model", str(model), "--data", str(manifest)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("quality: ") and told in said and said.count("\n") == 1


def test_the_results_show_the_table_of_the_recipes_files():
    shown = (Path(table.__file__).parents[1] / "results" / "quality.md").read_text(encoding="utf-8")
    assert table.table() in shown


def test_the_table_names_the_corruptions_that_were_missed(tmp_path):
    figures = {"spearman": 0.81234, "false alarms": 0.0125, "flagged": 0.95, "flagged: a": 0.9, "flagged: b": 1.0}
    figures |= {"within interval": 0.912, "corrupted: reject": 0.8, "genuine: reject": 0.0}
    (tmp_path / "liver").mkdir()
    for split in ("validation", "test"):
        (tmp_path / "liver" / f"quality-{split}.json").write_text(json.dumps(figures), encoding="utf-8")
    cells = ["liver", "0.812", "0.812", "91.2 %", "95 % (a 90 %)", "80 %", "1.25 %", "0 %"]
    assert table.table(tmp_path).splitlines()[-1] == f"| {' | '.join(cells)} |"


def test_of_many_subjects_some_are_taken_but_all_that_intervals_rest_on(tmp_path):
    file = tmp_path / "a.nii.gz"
    many = [Subject(f"s{n}", file, file, "train") for n in range(40)]
    held_out = [Subject(f"v{n}", file, file, "validation") for n in range(5)]
    found = command._chosen([*many[:20], *held_out, *many[20:]], 15)
    assert found[-5:] == held_out and found[:-5] == many[::4]
    assert command._chosen(held_out, 2) == held_out and command._chosen(many, None) == many
