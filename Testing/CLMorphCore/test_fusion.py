"""Several atlases: votes are counted as stated, in slabs as in one piece, and one affine serves all."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from CLMorphCore import fusion
from CLMorphCore.bundles.atlas import read_atlases, save_atlas
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.bundles.template import build_each, vote
from CLMorphCore.errors import InputError
from CLMorphCore.fusion import fuse, fuse_votes
from CLMorphCore.io.manifest import Subject
from CLMorphCore.matching import align_scan, prepare
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.reports.report import FusionEntry
from CLMorphCore.segmentation import prepare_atlases, segment

VOTES = arrays(
    np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6), st.just(2), st.just(3)), elements=st.integers(0, 4)
)


def shifted(image, voxels):
    """The image's content moved along its first axis, on the same grid."""
    moved = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(image), voxels, axis=2))
    moved.CopyInformation(image)
    return moved


@pytest.fixture(scope="module")
def crowd(atlas):
    """The atlas itself and two that are shifted by two and four voxels, on one grid."""
    return [
        replace(atlas, name=f"by {n}", image=shifted(atlas.image, n), labels=shifted(atlas.labels, n))
        for n in (4, 0, 2)
    ]


@pytest.fixture(scope="module")
def identity():
    return sitk.AffineTransform(3)


@settings(deadline=None, max_examples=50)
@given(VOTES)
def test_majority_is_the_vote_of_equal_voters(labels):
    fused, disagreement = fuse_votes(labels, np.ones(labels.shape, np.float32))
    expected = sitk.GetArrayFromImage(vote([sitk.GetImageFromArray(one) for one in labels]))
    assert (fused == expected).all()
    np.testing.assert_allclose(disagreement, 1 - (labels == fused).mean(axis=0), atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(VOTES, st.integers(1, 60), st.integers(0, 9))
def test_slabs_change_nothing(labels, slab_votes, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, labels.shape).astype(np.float32)
    whole, slabs = fuse_votes(labels, weights), fuse_votes(labels, weights, slab_votes=slab_votes)
    assert (whole[0] == slabs[0]).all() and (whole[1] == slabs[1]).all()


def test_no_more_votes_than_a_slab_holds_are_counted_at_once(monkeypatch):
    seen = []
    monkeypatch.setattr(fusion, "_heaviest", lambda votes, weights: seen.append(votes.size) or votes[0])
    for atlases in (2, 8):
        labels = np.arange(atlases, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 40, 4, 4), np.uint8)
        fuse_votes(labels, np.ones(labels.shape, np.float32), slab_votes=320)
    assert max(seen) <= 320


def test_a_heavier_vote_wins_against_two():
    labels = np.array([1, 2, 2], np.uint8).reshape(3, 1, 1, 1)
    fused, disagreement = fuse_votes(labels, np.array([0.6, 0.2, 0.2], np.float32).reshape(3, 1, 1, 1))
    assert fused.item() == 1 and disagreement.item() == pytest.approx(0.4)


def test_staple_believes_the_reliable():
    truth = np.zeros((4, 12, 12), np.uint16)
    truth[:, 3:9, 3:9], truth[:, 3:9, 6:9] = 7, 1035
    random = np.random.default_rng(0)
    good, poor = truth.copy(), [truth.copy() for _ in range(2)]
    for one in poor:  # the same faults in both: the majority follows them where they agree
        wrong = np.random.default_rng(1).uniform(size=truth.shape) < 0.3
        one[wrong] = random.choice([0, 7, 1035], wrong.sum())
    labels = np.stack([good, good, *poor])
    fused, _ = fuse_votes(labels, np.ones(labels.shape, np.float32), staple=True)
    assert (fused == truth).mean() > 0.98 and set(np.unique(fused)) == {0, 7, 1035}


def fused(image, model, atlases, affine, **options):
    """The fusion of atlases for an image."""
    prepared = prepare(model, atlases)
    return fuse(align_scan(image, prepared, model, affine=affine), prepared, model, **options)


@pytest.mark.parametrize("method", fusion.METHODS)
def test_equal_atlases_say_what_one_says(method, phantom, model, atlas, identity):
    alone = segment(phantom.image, model, atlases=[atlas], affine=identity)
    together = segment(
        phantom.image, model, atlases=[atlas, replace(atlas, name="again")], affine=identity, fusion=method
    )
    assert min(dice_per_label(sitk.Cast(together.labels, sitk.sitkUInt8), alone.labels).values()) > 0.9
    assert together.structures == alone.structures
    assert together.report.fusion == FusionEntry(method, ("ellipsoids", "again"))


def test_the_most_similar_atlases_are_taken(model, atlas, crowd, identity):
    found = fused(atlas.image, model, crowd, identity, most_similar=2)
    assert [one.name for one in found.atlases] == ["by 0", "by 2"]


def test_local_similarity_prefers_the_atlas_that_fits(model, atlas, crowd, identity):
    """Where two shifted atlases outvote the one that fits, its likeness to the scan makes up for it."""
    many = [crowd[1], crowd[0], replace(crowd[0], name="again")]
    dice = {}
    for method in ("majority", "similarity"):
        labels = fused(atlas.image, model, many, identity, method=method).labels
        dice[method] = np.mean(list(dice_per_label(labels, atlas.labels).values()))
    assert dice["similarity"] > dice["majority"] + 0.1


def test_disagreement_is_where_atlases_differ(model, atlas, crowd, identity):
    found = fused(atlas.image, model, crowd, identity)
    disagreement, labels = (sitk.GetArrayFromImage(image) for image in (found.disagreement, found.labels))
    assert disagreement.min() == 0 and 0.1 < disagreement.max() < 1 and disagreement.shape == labels.shape
    assert disagreement[labels > 0].mean() > 3 * disagreement[labels == 0].mean()


def test_atlases_on_different_grids_are_refused(model, atlas):
    other = replace(
        atlas, name="elsewhere", image=sitk.Crop(atlas.image, (1, 0, 0)), labels=sitk.Crop(atlas.labels, (1, 0, 0))
    )
    with pytest.raises(InputError, match="elsewhere lie on another grid than atlas ellipsoids"):
        prepare_atlases(model, [atlas, other])


def test_more_atlases_than_there_are_and_unknown_methods_are_refused(model, atlas, crowd):
    with pytest.raises(InputError, match=r"most_similar=3 given, there is 1; expected a number from 1 to 1"):
        prepare_atlases(model, most_similar=3)
    with pytest.raises(InputError, match=r"unknown fusion 'stapel'; did you mean staple\?"):
        fused(atlas.image, model, crowd, None, method="stapel")


def test_a_models_first_atlas_is_used_alone_unless_more_are_asked_for(model, atlas, crowd):
    several = replace(model, atlases=tuple(crowd))
    assert prepare_atlases(several).atlases == (crowd[0],)
    assert len(prepare_atlases(several, most_similar=2).atlases) == 3


def test_each_subject_becomes_an_atlas_in_one_space(atlas, model, tmp_path, clmorph, tiny_model):
    subjects, rows = [], ["subject,image,labels,split"]
    for seed in range(2):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        files = [tmp_path / f"{seed}{kind}.nii.gz" for kind in ("", "-labels")]
        for image, file in zip((phantom.image, phantom.labels), files, strict=True):
            sitk.WriteImage(image, str(file))
        subjects.append(Subject(f"s{seed}", *files, "train"))
        rows.append(f"s{seed},{seed}.nii.gz,{seed}-labels.nii.gz,train")
    built = build_each(subjects, reference=atlas.image)
    for one in built:
        assert min(dice_per_label(one.labels, atlas.labels).values()) > 0.6
        save_atlas(tmp_path / "each" / one.name, one)
    assert [one.name for one in read_atlases(tmp_path / "each")] == ["s0", "s1"]
    assert [one.name for one in read_atlases(tmp_path / "each" / "s1")] == ["s1"]
    (tmp_path / "data.csv").write_text("\n".join(rows), encoding="utf-8")
    ran = clmorph(
        "segment",
        subjects[0].image,
        "--model",
        tiny_model,
        "--atlas-dir",
        tmp_path / "each",
        "--atlases",
        1,
        "-o",
        tmp_path / "out",
    )
    assert ran.code == 0, ran.err
    labels = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert min(dice_per_label(labels, sitk.ReadImage(str(subjects[0].labels))).values()) > 0.9


def test_a_fusion_of_a_single_atlas_is_said_to_do_nothing(crowd, model, identity):
    alone = segment(crowd[1].image, model, atlases=crowd[1:2], affine=identity, fusion="majority")
    assert [text for text in alone.report.warnings if "fusion by majority" in text and "one atlas" in text]
    unasked = segment(crowd[1].image, model, atlases=crowd[1:2], affine=identity)
    assert not [text for text in unasked.report.warnings if "fusion" in text]
