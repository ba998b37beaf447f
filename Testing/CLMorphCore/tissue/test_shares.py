"""Shares of an atlas' votes, and the tissues that its labels and its background are grouped by."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_tissue import ball, image_of, votes_of

from CLMorphCore.bundles.atlas import read_atlas, save_atlas
from CLMorphCore.errors import FileError, InputError
from CLMorphCore.segmentation import segment
from CLMorphCore.tissue.classes import tissues_of
from CLMorphCore.tissue.shares import PADDING, read_shares, shares_of, single_vote, write_shares


def test_shares_are_the_fraction_of_votes_and_files_keep_them(tmp_path):
    votes = votes_of(ball((20, 20, 20), 9), ball((22, 20, 20), 9), ball((20, 23, 20), 9))
    shares = shares_of(votes)
    write_shares(tmp_path / "shares.npz", shares)
    again = read_shares(tmp_path / "shares.npz")
    assert again.shape == shares.shape and again.voters == 3
    (structure,) = [one for one in again.each if one.label == 1]
    whole = np.zeros(shares.shape)
    whole[tuple(slice(a, a + n) for a, n in zip(structure.start, structure.share.shape, strict=True))] = structure.share
    np.testing.assert_allclose(whole / 255, np.mean([vote == 1 for vote in votes], axis=0), atol=0.003)
    for mine, its in zip(shares.each, again.each, strict=True):
        assert mine.label == its.label and mine.start == its.start and (mine.share == its.share).all()


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_damaged_shares_are_one_line(tmp_path, cut):
    path = tmp_path / "shares.npz"
    write_shares(path, shares_of(votes_of(ball((20, 20, 20), 9))))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FileError, match="vote shares"):
        read_shares(path)


def test_an_atlas_keeps_its_shares(atlas, tmp_path):
    from dataclasses import replace

    shares = shares_of([single_vote(atlas.image, atlas.labels)])
    save_atlas(tmp_path / "atlas", replace(atlas, shares=shares))
    assert read_atlas(tmp_path / "atlas").shares.voters == 1
    save_atlas(tmp_path / "atlas", atlas)  # without: the old file must not stay
    assert read_atlas(tmp_path / "atlas").shares is None
    write_shares(tmp_path / "atlas" / "shares.npz", shares_of(votes_of(ball((20, 20, 20), 9))))
    with pytest.raises(InputError, match="delete the file"):
        read_atlas(tmp_path / "atlas")


def test_the_background_is_told_apart_by_its_grey_values():
    values = np.zeros((30, 30, 30), np.float32)
    rng = np.random.default_rng(5)
    for n, mean in enumerate((200.0, 50.0, 120.0)):
        values[10 * n : 10 * n + 9] = mean + rng.normal(0, 3, (9, 30, 30))
    labels = np.zeros(values.shape, np.uint8)
    labels[12:16, 12:16, 12:16] = 1
    votes = single_vote(image_of(values), image_of(labels))
    assert (votes[9] == PADDING).all() and (votes == 1).sum() == 64
    assert votes[4, 4, 4] == PADDING - 3 and votes[12, 2, 2] == PADDING - 1 and votes[24, 4, 4] == PADDING - 2


def test_structures_that_look_alike_share_a_tissue():
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(5, dtype=np.uint8), 8)[:, None, None] * np.ones((1, 20, 20), np.uint8)
    means = np.array([0.0, 100.0, 101.0, 160.0, 100.5])[labels]
    tissues = tissues_of(image_of(means + rng.normal(0, 5, labels.shape)), image_of(labels))
    assert sorted(sorted(group) for group in tissues) == [[1, 2, 4], [3]]


def test_votes_for_what_is_no_structure_of_the_atlas_give_no_label(atlas, phantom, model):
    votes = single_vote(atlas.image, atlas.labels)
    votes[votes == 2] = 300
    foreign = replace(atlas, shares=shares_of([votes]))
    found = segment(phantom.image, model, atlases=[foreign], tissue="on", affine=sitk.AffineTransform(3))
    assert set(np.unique(sitk.GetArrayViewFromImage(found.labels))) <= {0, 1, 2, 3}
