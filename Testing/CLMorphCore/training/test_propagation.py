"""One labelled scan lends its labels to scans that nobody has labelled."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import make_atlas
from CLMorphCore.bundles.model import load_model
from CLMorphCore.geometry import Grid, resample_labels
from CLMorphCore.instance_optimization import InstanceOptimization
from CLMorphCore.io.manifest import read_manifest, read_subject
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.training import propagation
from CLMorphCore.training.propagation import propagated, unmeasured_tissue

FEW = InstanceOptimization(5)


@pytest.fixture(scope="module")
def scans(made):
    """The labelled one, and others."""
    one, *others = [replace(s, split="train") for s in read_manifest(made / "scans.csv")][:3]
    return one, others


@pytest.fixture(scope="module")
def model(made):
    return load_model(made / "model")


def test_lent_labels_are_nearer_to_the_truth_than_where_they_were(scans, model, tmp_path):
    one, (other, *_) = scans
    assert one.labels is not None
    own = make_atlas(one.name, one.image, one.labels, None)
    (lent,) = propagated(own, [replace(other, labels=None)], model, tmp_path, optimization=FEW)
    _, truth = read_subject(other)
    found, before = (sitk.Cast(sitk.ReadImage(str(file)), truth.GetPixelID()) for file in (lent.labels, one.labels))
    before = resample_labels(before, Grid.of(truth), sitk.Transform())
    gained = [np.mean(list(dice_per_label(labels, truth).values())) for labels in (found, before)]
    assert gained[0] > gained[1] + 0.05


def test_what_nobody_measured_follows_the_tissue_where_enough_scans_have_voted(model):
    atlas = model.atlases[0]
    assert atlas.shares is not None and atlas.shares.voters == 3 and not unmeasured_tissue(atlas).on
    many = replace(atlas, shares=replace(atlas.shares, voters=5))
    assert unmeasured_tissue(many).on and unmeasured_tissue(many).smoothing_mm < min(Grid.of(atlas.labels).voxel_mm)
    assert not unmeasured_tissue(replace(atlas, shares=None)).on


def test_a_scan_that_gets_no_label_has_no_say_and_is_told(scans, model, tmp_path, caplog, monkeypatch):
    _, (other, *_) = scans
    unlabelled, atlas = replace(other, labels=None), model.atlases[0]
    (lent,) = propagated(atlas, [unlabelled], model, tmp_path, optimization=FEW)
    assert lent.labels is not None and sitk.GetArrayFromImage(sitk.ReadImage(str(lent.labels))).any()
    monkeypatch.setattr(
        propagation, "warped_labels", lambda found, _: sitk.Image(found.scan.image.GetSize(), sitk.sitkUInt8)
    )
    assert propagated(atlas, [unlabelled], model, tmp_path, optimization=FEW) == [unlabelled]
    assert f"{other.name} has no say in the atlas' labels: none of average lies in it" in caplog.text
