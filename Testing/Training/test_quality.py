"""Fitting and measuring the quality score, from a manifest to figures."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.config import from_dict
from CLMorphCore.models import Atlas, default_structures, save_atlas
from CLMorphCore.networks import build
from CLMorphCore.phantom import make_phantom
from CLMorphCore.training import save_weights
from CLMorphCore.trust.evidence import CHECKS, FEATURES, Evidence
from CLMorphCore.trust.quality import fit, read_quality
from Training import quality as command
from Training.quality import GENUINE, Seen, correlation, figures, left_out


@pytest.fixture(scope="module")
def atlas():
    """Two ellipsoids in a textured body."""
    z, y, x = np.meshgrid(*[1.5 * (np.arange(n) - (n - 1) / 2) for n in (28, 36, 32)], indexing="ij")
    image = np.where((x / 22) ** 2 + (y / 25) ** 2 + (z / 19) ** 2 < 1, 400 + 80 * np.sin(x / 4) * np.cos(y / 5), 0)
    labels = np.zeros(x.shape, np.uint8)
    for value, centre in ((1, -8), (2, 8)):
        inside = ((x - centre) / 6) ** 2 + (y / 9) ** 2 + (z / 7) ** 2 < 1
        image[inside], labels[inside] = 700 + 150 * value, value
    placed = [sitk.GetImageFromArray(a) for a in (image.astype(np.float32), labels)]
    for one in placed:
        one.SetSpacing([1.5] * 3)
    return Atlas("ellipsoids", *placed, default_structures([1, 2]))


@pytest.fixture(scope="module")
def atlas_model(atlas, tmp_path_factory):
    """Folder of a bundle with fresh weights."""
    folder = tmp_path_factory.mktemp("models") / "fresh"
    config = from_dict({"network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8},
                        "data": {"spacing_mm": [2.0, 2.0, 2.0]}, "loss": {"regulariser": "diffusion"}})
    torch.manual_seed(0)
    save_weights(folder / "weights.safetensors", build(config.network.name, config.network.settings), config, step=0)
    save_atlas(folder / "atlases" / "ellipsoids", atlas)
    return folder


def seen(subject, kind, level, dice, odd=0.0):
    return Seen(subject, kind, Evidence((1, 2), np.full((2, len(FEATURES)), level), np.full(len(CHECKS), 0.5 - odd)),
                None if dice is None else np.array([dice, dice - 0.2]))


@pytest.fixture
def cases():
    """Eight subjects whose evidence tells their Dice, and a spoilt case of each."""
    return [one for n in range(8) for one in (seen(f"s{n}", GENUINE, n / 8, 0.6 + n / 25, odd=0.001 * n),
                                              seen(f"s{n}", "noise", -3.0, None, odd=0.4))]


def test_correlation_and_flags_of_subjects_left_out(cases):
    table = figures(left_out("average", cases))
    assert table["spearman"] > 0.9 and table["subjects"] == 8 and abs(table["mean_error"]) < 0.02
    assert table["flagged: noise"] == table["flagged"] == 1.0 and table["false alarms"] < 0.3


def test_a_subject_has_no_part_in_the_fit_it_is_measured_with(cases):
    changed = [*cases]
    changed[0] = seen("s0", GENUINE, 0.0, 0.95)
    before, after = ({s.subject: q for q, s in left_out("average", some)} for some in (cases, changed))
    assert before["s0"] == after["s0"] and before["s1"] != after["s1"]


def test_a_case_that_the_engine_refuses_counts_as_flagged(cases):
    pairs = left_out("average", [*cases, Seen("s0", "wrong organ", None, None)])
    assert figures(pairs)["flagged: wrong organ"] == 1.0


def test_a_missing_structure_is_left_out_of_the_correlation(cases):
    quality = fit("average", [(s.evidence, s.dice) for s in cases if s.kind == GENUINE])
    whole = [(quality, s) for s in cases if s.kind == GENUINE]
    gap = [*whole, (quality, seen("x", GENUINE, 0.9, 0.1))]
    gap[-1][1].dice[:] = np.nan
    assert correlation(gap) == correlation(whole)


def test_the_command_fits_and_measures(atlas_model, atlas, tmp_path, monkeypatch, capsys):
    rows = ["subject,image,labels,split"]
    for seed in range(3):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        sitk.WriteImage(phantom.image, str(tmp_path / f"{seed}.nii.gz"))
        sitk.WriteImage(phantom.labels, str(tmp_path / f"{seed}-labels.nii.gz"))
        rows.append(f"s{seed},{seed}.nii.gz,{seed}-labels.nii.gz,{'validation' if seed == 2 else 'train'}")
    (tmp_path / "data.csv").write_text("\n".join(rows), encoding="utf-8")
    words = ["--model", str(atlas_model), "--data", str(tmp_path / "data.csv"), "--spoil-every", "4"]
    for verb, more in (("fit", []), ("measure", ["--split", "validation", "--figures", str(tmp_path / "f.json")])):
        monkeypatch.setattr(sys, "argv", ["quality", verb, *words, *more])
        command.main()
    assert set(read_quality(atlas_model).usual) == {1, 2}
    table = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert table["subjects"] == 1 and table["flagged: failed affine"] == 1.0
    assert json.loads(capsys.readouterr().out.split("validation")[-1].split("s2\n")[-1]) == table
