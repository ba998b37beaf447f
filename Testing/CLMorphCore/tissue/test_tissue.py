"""Labels that follow the scan's tissue: Gaussians are found, borders move to where the scan shows them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_up_tissue import ball, dice, expectation_of, image_of, votes_of

from CLMorphCore.errors import FileError, InputError
from CLMorphCore.geometry import Grid
from CLMorphCore.matching import align_scan, match, prepare
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.registration import transform_of
from CLMorphCore.segmentation import segment
from CLMorphCore.tissue import labels as tissue_module
from CLMorphCore.tissue.expectation import of_several
from CLMorphCore.tissue.labels import tissue_labels
from CLMorphCore.tissue.mixture import field, fit
from CLMorphCore.tissue.pieces import without_crumbs
from CLMorphCore.tissue.priors import atlas_voxels
from CLMorphCore.tissue.settings import TissueSettings, read_settings, write_settings
from CLMorphCore.tissue.shares import PADDING, shares_of

ON = TissueSettings(True, 1.0, 0.5)


def test_the_mixture_finds_gaussians_and_bias():
    rng = np.random.default_rng(0)
    places = torch.tensor(rng.uniform(-1, 1, (3, 40_000)), dtype=torch.float32)
    tissue = torch.tensor(rng.integers(0, 3, 40_000))
    clean = torch.tensor([50.0, 100.0, 140.0])[tissue] + torch.tensor(rng.normal(0, 1, 40_000)).float() * 6
    bias = torch.exp(0.2 * places[0] - 0.15 * places[1] * places[2])
    prior = torch.full((3, 40_000), 0.2)
    prior[tissue, torch.arange(40_000)] = 0.6
    found = fit(clean * bias, prior, places)
    assert found.sd.tolist() == pytest.approx([6, 6, 6], rel=0.15)
    # One factor for all is the means' or the bias' alike, the latter has none.
    assert (found.mean / found.mean[1]).tolist() == pytest.approx([0.5, 1.0, 1.4], rel=0.02)
    error = field(found.bias, *places) - torch.log(bias)
    assert float(error.std()) < 0.02


def test_a_sample_that_stands_for_eight_voxels_counts_as_eight():
    rng = np.random.default_rng(4)
    places = torch.tensor(rng.uniform(-1, 1, (3, 2000)), dtype=torch.float64)
    tissue = torch.tensor(np.where(np.arange(2000) < 12, 2, rng.integers(0, 2, 2000)))  # the last one is small
    values = torch.tensor([50.0, 100.0, 200.0])[tissue] + torch.tensor(rng.normal(0, 3, 2000))
    prior = torch.full((3, 2000), 0.001, dtype=torch.float64)
    prior[tissue, torch.arange(2000)] = 0.998
    whole = fit(values.repeat(8), prior.repeat(1, 8), places.repeat(1, 8))
    found = fit(values, prior, places, voxels_each=8)
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.sd, whole.sd, rtol=1e-3, atol=0)
    assert found.mean[2] > 190 and not 190 < fit(values, prior, places).mean[2] < 210


def test_a_border_moves_to_where_the_scan_shows_it():
    truth, expected = ball((20, 20, 20), 10), ball((22, 20, 20), 10)
    rng = np.random.default_rng(1)
    scan = image_of(np.where(truth, 100.0, 60.0) + rng.normal(0, 8, truth.shape))
    shares = shares_of(votes_of(expected))
    found = tissue_labels(scan, expectation_of(shares, 2.0), [(1,), (PADDING - 1,)], exponent=0.5, device="cpu")
    assert dice(found.expected, truth) < 0.88 and dice(found.labels, truth) > 0.95
    assert found.mixture.mean.tolist() == pytest.approx([100, 60], abs=5)
    # Far from any border nobody disagrees, and on one all do who say otherwise.
    assert found.disagreement[22, 20, 20] == pytest.approx(0, abs=0.02) and found.disagreement.max() <= 0.51


def test_slabs_change_nothing(monkeypatch):
    truth = ball((20, 20, 20), 10)
    scan = image_of(np.where(truth, 100.0, 60.0) + np.random.default_rng(2).normal(0, 8, truth.shape))
    expected = expectation_of(shares_of(votes_of(ball((21, 20, 20), 10), ball((19, 21, 20), 9))))
    whole = tissue_labels(scan, expected, [(1,), (PADDING - 1,)], exponent=0.5, device="cpu")
    monkeypatch.setattr(tissue_module, "SLAB_VOXELS", 3000)
    slabs = tissue_labels(scan, expected, [(1,), (PADDING - 1,)], exponent=0.5, device="cpu")
    for name in ("labels", "expected", "disagreement"):
        np.testing.assert_allclose(getattr(slabs, name), getattr(whole, name), atol=1e-5)


def test_less_weight_of_the_background_gives_a_structure_the_voxels_that_are_a_little_less_likely_its():
    """P > w (1 − P), where the intensities say nothing: above 1/2, 3/8 and 2/7 for w of 1, 0.6 and 0.4."""
    voters = ball((22, 20, 20), 10), ball((20, 20, 20), 8), ball((19, 21, 20), 9)
    expected = expectation_of(shares_of(votes_of(*voters)))
    scan = image_of(np.random.default_rng(3).normal(50, 9, (40, 40, 40)))
    probability = np.zeros((40, 40, 40))
    for prior in expected(Grid.of(scan), 1):
        if prior.label == 1:
            probability[prior.place] += prior.probability.numpy()
    for weight, threshold in ((1.0, 1 / 2), (0.6, 3 / 8), (0.4, 2 / 7)):
        how = {"exponent": 0.0, "background": weight, "device": "cpu"}
        found = tissue_labels(scan, expected, [(1,), (PADDING - 1,)], **how).labels == 1
        sure = abs(probability - threshold) > 0.01  # votes are kept to 1/255
        assert (found == (probability > threshold))[sure].mean() > 0.999
    assert found.sum() > 1.2 * (probability > 0.5).sum()


def test_less_weight_of_what_is_dark_moves_the_border_to_the_dark_alone():
    """A ball between a dark half and a bright one: P > w (1 − P), above 2/7 for w = 0.4 on the dark side, 1/2 else."""
    half = np.where(np.arange(40)[:, None, None] < 20, PADDING - 1, PADDING - 3)
    votes = [np.where(ball((20, 20, 20), radius), 1, half).astype(np.int32) for radius in range(6, 14)]
    expected = expectation_of(shares_of(votes), 0.3)
    scan = image_of(np.random.default_rng(3).normal(50, 9, (40, 40, 40)))
    probability = next(prior for prior in expected(Grid.of(scan), 1) if prior.label == 1)
    likely = np.zeros((40, 40, 40))
    likely[probability.place] = probability.probability.numpy()
    how = {"exponent": 0.0, "device": "cpu", "dark_background": 0.4}
    found = tissue_labels(scan, expected, [(1,), (PADDING - 1,), (PADDING - 3,)], **how).labels == 1
    for side, threshold in ((slice(0, 18), 2 / 7), (slice(22, 40), 1 / 2)):
        sure = abs(likely[side] - threshold) > 0.01
        assert (found[side] == (likely[side] > threshold))[sure].mean() > 0.999
    assert found[:18].sum() > 1.2 * found[23:].sum() > 0


def test_with_exponent_zero_the_atlas_speaks_alone():
    voters = ball((22, 20, 20), 10), ball((20, 20, 20), 8), ball((19, 21, 20), 9)
    expected = expectation_of(shares_of(votes_of(*voters)))
    scan = image_of(np.random.default_rng(3).normal(50, 9, (40, 40, 40)))
    found = tissue_labels(scan, expected, [(1,), (PADDING - 1,)], exponent=0.0, device="cpu")
    assert (found.labels == found.expected).mean() > 0.999  # but for rounding


def test_atlas_voxels_are_where_itk_maps_the_scans(atlas, phantom, model):
    prepared = prepare(model, [atlas])
    found = match(align_scan(phantom.image, prepared, model), prepared, model)
    grid = Grid.of(phantom.image).part([slice(3, 29), slice(5, 31), slice(2, 30)])
    transform = transform_of(found)
    for step in (1, 3):
        voxels = atlas_voxels(found, grid, Grid.of(atlas.labels), step).numpy()
        for index in ((0, 0, 0), (4, 7, 2), (8, 8, 8)):
            point = grid.points_mm(np.array([index], float) * step)[0]
            itk = atlas.labels.TransformPhysicalPointToContinuousIndex(transform.TransformPoint(point.tolist()))
            np.testing.assert_allclose(voxels[(slice(None), *index)], itk[::-1], atol=1e-3)


def test_labels_follow_the_scan_where_the_model_says_so(atlas, phantom, model):
    off, on = (segment(phantom.image, model, tissue=tissue) for tissue in ("off", "on"))
    assert segment(phantom.image, model).labels_expected is None  # auto: nothing was found best for this model
    before, after = (
        np.mean(list(dice_per_label(each.labels, phantom.labels, [1, 2, 3]).values())) for each in (off, on)
    )
    assert after > before + 0.02
    assert on.labels.GetPixelID() == off.labels.GetPixelID() and Grid.of(on.labels) == Grid.of(phantom.image)
    report = on.report
    assert report.tissue.used and not off.report.tissue.used
    assert {name for each in report.tissue.classes for name in each.structures} == {s.name for s in atlas.structures}
    assert all(s.volume_expected_ml > 0 for s in report.structures)
    with pytest.raises(InputError, match="tissue=maybe"):
        segment(phantom.image, model, tissue="maybe")


@pytest.mark.parametrize("value", [614_454_277, 2**31 + 7, 2**32 - 1])
@pytest.mark.parametrize("count", [1, 2])
def test_labels_of_any_size_follow_the_scan_as_small_ones_do(value, count, atlas, phantom, model):
    """Numbers as in the Allen atlas' table, and those beyond 31 bits: none is lost, nor does it take memory."""
    from dataclasses import replace

    array = sitk.GetArrayFromImage(atlas.labels).astype(np.int64)
    labels = sitk.GetImageFromArray(np.where(array == 2, value, array))
    labels.CopyInformation(atlas.labels)
    named = tuple(replace(s, value=value) if s.value == 2 else s for s in atlas.structures)
    huge = replace(atlas, labels=labels, structures=named, shares=None)
    crowd = [[replace(one, name=f"{n}") for n in range(count)] for one in (replace(atlas, shares=None), huge)]
    small, large = (segment(phantom.image, model, atlases=atlases, tissue="on") for atlases in crowd)
    assert small.report.tissue.used and large.report.tissue.used
    expected = sitk.GetArrayFromImage(small.labels).astype(np.int64)
    assert (sitk.GetArrayFromImage(large.labels) == np.where(expected == 2, value, expected)).all()
    assert large.volumes_ml[value] == small.volumes_ml[2] > 0


def test_a_label_that_the_first_of_several_atlases_could_not_hold_is_none_less(atlas, phantom, model):
    """8-bit labels of the most similar atlas, 300 in the others: of their number, and as many as of a small one."""

    def numbered(value, name):
        array = sitk.GetArrayFromImage(atlas.labels).astype(np.uint16)
        upper = (array == 2) & (np.arange(len(array))[:, None, None] > np.argwhere(array == 2)[:, 0].mean())
        labels = sitk.GetImageFromArray(np.where(upper, value, array).astype(np.min_scalar_type(value)))
        labels.CopyInformation(atlas.labels)
        added = () if value == 2 else (replace(atlas.structures[1], value=value, name="Upper"),)
        return replace(atlas, name=name, labels=labels, structures=(*atlas.structures, *added), shares=None)

    def fused(value):
        crowd = [numbered(2, "first"), numbered(value, "one"), numbered(value, "two")]
        assert crowd[0].labels.GetPixelID() == sitk.sitkUInt8
        return segment(phantom.image, model, atlases=crowd, tissue="on", affine=sitk.AffineTransform(3))

    small, large = fused(7), fused(300)
    assert large.atlas.name == "first" and large.report.tissue.used
    expected = sitk.GetArrayFromImage(small.labels).astype(np.int64)
    assert (sitk.GetArrayFromImage(large.labels) == np.where(expected == 7, 300, expected)).all()
    assert large.volumes_ml[300] == small.volumes_ml[7] > 0


@pytest.mark.parametrize("fusion", ["similarity", "majority"])
def test_votes_of_several_atlases_are_what_tissue_is_weighed_with(atlas, phantom, model, fusion):
    from dataclasses import replace

    crowd = [replace(atlas, name=name) for name in ("one", "two")]
    alone, several = (
        segment(phantom.image, model, atlases=atlases, tissue="on", fusion=fusion) for atlases in ([atlas], crowd)
    )
    overlap = dice_per_label(several.labels, alone.labels, [1, 2, 3])
    assert min(overlap.values()) > 0.93
    assert several.report.fusion.atlases == ("one", "two")
    staple = segment(phantom.image, model, atlases=crowd, tissue="on", fusion="staple")
    assert any("STAPLE" in warning for warning in staple.report.warnings)


def test_a_part_of_the_scan_expects_what_the_whole_does(atlas, phantom, model):
    prepared = prepare(model, [atlas, atlas])
    found = match(align_scan(phantom.image, prepared, model), prepared, model)
    ones = torch.ones(1, 1, *prepared.grid.shape)
    expected = of_several([found, found], [ones, 2 * ones], prepared.tissue.votes, prepared.tissue, ON)
    grid, part = Grid.of(phantom.image), [slice(8, 20), slice(10, 24), slice(9, 25)]

    def dense(where, label):
        total = torch.zeros(where.shape)
        for prior in expected(where, 1):
            if prior.label == label:
                total[prior.place] += prior.probability
        return total

    for label in (1, 2, 3):
        np.testing.assert_allclose(dense(grid.part(part), label), dense(grid, label)[tuple(part)], atol=1e-5)


def test_settings_are_read_as_written_and_nonsense_is_one_line(tmp_path):
    assert read_settings(tmp_path) == read_settings(None) == TissueSettings(on=False)
    write_settings(tmp_path, ON)
    assert read_settings(tmp_path) == ON and ON.background == 1
    weighed = replace(ON, background=0.8, dark_background=0.4)
    write_settings(tmp_path, weighed)
    assert read_settings(tmp_path) == weighed
    (tmp_path / "tissue.toml").write_text("on = true\nsmoothing_mm = 1\nexponent = 0.5\n")  # as earlier versions wrote
    assert read_settings(tmp_path) == ON
    none = "on = true\nsmoothing_mm = 1\nexponent = 0.5\nbackground = 0"
    for text in (none, "on = 1", "on = true\nsmoothing_mm = nan\nexponent = 0.5", "on = true\nsmoothing_mm = 1", "[["):
        (tmp_path / "tissue.toml").write_text(text)
        with pytest.raises(FileError):
            read_settings(tmp_path)


def test_the_command_has_efforts(scan, tiny_model, clmorph, tmp_path):
    seen = {}
    for name, words in {
        "fast": ["--effort", "fast"],
        "balanced": [],
        "asked": ["--tissue", "on"],
        "best": ["--effort", "best", "--tissue", "on"],
    }.items():
        assert clmorph("segment", scan, "--model", tiny_model, "-o", tmp_path / name, *words).code == 0
        report = json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))
        seen[name] = report["tissue"]["used"], report["refinement_steps"] > 0
        assert report["effort"] == (name if name != "asked" else "balanced")
    assert seen == {"fast": (False, False), "balanced": (False, False), "asked": (True, False), "best": (True, True)}
    page = (tmp_path / "asked" / "report.html").read_text(encoding="utf-8")
    assert "<td>Effort</td><td>balanced</td>" in page
    assert "what the atlas alone says" in page and "<h2>Tissues</h2>" in page


def test_crumbs_of_a_structure_go_to_what_the_atlas_says_there():
    labels, alone = np.zeros((12, 12, 12), np.int32), np.zeros((12, 12, 12), np.int32)
    labels[1:6, 1:6, 1:6] = 4  # 125 voxels
    labels[8, 8, 8] = labels[10, 10, 1:3] = 4  # crumbs, one where the atlas says 7
    labels[8:11, 1:4, 8:11] = 4  # a piece of its own: more than a tenth
    labels[6, 6, 6] = 4  # touches by a corner only, and the atlas expects it there
    alone[8, 8, 8], alone[6, 6, 6] = 7, 4
    found = without_crumbs(labels, alone)
    expected = labels.copy()
    expected[8, 8, 8], expected[10, 10, 1:3] = 7, 0
    assert np.array_equal(found, expected) and labels[8, 8, 8] == 4
    assert np.array_equal(without_crumbs(found, alone), found)
