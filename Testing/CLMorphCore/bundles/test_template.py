"""An atlas from many subjects: their mean shape, their voted labels, and nobody's scan."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import Structure, read_atlas
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.bundles.template import build_atlas, build_each, vote
from CLMorphCore.errors import Cancelled, InputError
from CLMorphCore.geometry import Grid, chain, placed
from CLMorphCore.io.manifest import Subject
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.registration import register

pytestmark = pytest.mark.usefixtures("aligned_once")  # the same subjects are averaged by many tests


@pytest.fixture(scope="module")
def subjects(atlas, tmp_path_factory):
    """Four phantoms; the last one has no labels."""
    folder = tmp_path_factory.mktemp("subjects")
    made = []
    for seed in range(4):
        phantom = make_phantom(atlas, seed=seed, deformation_mm=1.0)
        sitk.WriteImage(phantom.image, str(folder / f"{seed}.nii.gz"))
        sitk.WriteImage(phantom.labels, str(folder / f"{seed}-labels.nii.gz"))
        labels = folder / f"{seed}-labels.nii.gz" if seed < 3 else None
        made.append(Subject(str(seed), folder / f"{seed}.nii.gz", labels, "train"))
    return made


STATUS = Path("/proc/self/status")


def anonymous_mb():
    """What this process holds that lies in no file."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def label_image(values):
    return sitk.GetImageFromArray(np.array(values, np.uint8).reshape(1, 1, -1))


def test_the_most_frequent_value_wins_and_ties_go_to_the_smaller():
    voted = vote([label_image(v) for v in ([0, 1, 2, 3, 0], [0, 1, 1, 2, 5], [4, 0, 2, 1, 5])])
    assert sitk.GetArrayViewFromImage(voted).ravel().tolist() == [0, 1, 2, 1, 5]


def test_smoothing_lets_neighbours_decide_where_votes_are_scattered():
    alone = np.ones((7, 7, 7), np.uint8)
    alone[3, 3, 3] = 2
    image = sitk.GetImageFromArray(alone)
    assert (sitk.GetArrayFromImage(vote([image])) == alone).all()
    assert (sitk.GetArrayFromImage(vote([image], smoothing_voxels=1.0)) == 1).all()


@pytest.mark.parametrize("value", [1035, 70_000, 2**32 - 1])
def test_voting_keeps_large_values(value):
    voted = vote([sitk.Cast(label_image([1]), sitk.sitkInt64) * value] * 2)
    assert sitk.GetArrayViewFromImage(voted).ravel().tolist() == [value]


@pytest.mark.parametrize("with_model", [False, True], ids=["affine", "with a model"])
def test_the_average_of_phantoms_is_close_to_what_they_were_made_of(with_model, subjects, atlas, model):
    told = []
    built = build_atlas(
        subjects, model=model if with_model else None, rounds=1, progress=lambda step, fraction: told.append(fraction)
    )
    assert built.name == "average" and [s.value for s in built.structures] == [1, 2, 3]
    assert told == sorted(told) and min(told) >= 0 and max(told) <= 1
    assert built.image.GetSize() == built.labels.GetSize()
    # its place is that of no subject: aligned with the source, its structures must be the source's
    found = register(atlas.image, built.image, model).warp(built.labels, labels=True)
    assert min(dice_per_label(found, atlas.labels).values()) > 0.8
    assert np.unique(sitk.GetArrayViewFromImage(built.image)).size > 100


def test_where_the_subjects_lay_in_the_scanner_does_not_matter(subjects, tmp_path):
    moved = [subjects[0]]
    for subject in subjects[1:3]:
        files = []
        for file in (subject.image, subject.labels):
            image = sitk.ReadImage(str(file))
            image.SetOrigin([o + 60.0 for o in image.GetOrigin()])
            sitk.WriteImage(image, str(tmp_path / file.name))
            files.append(tmp_path / file.name)
        moved.append(replace(subject, image=files[0], labels=files[1]))
    here, there = (build_atlas(chosen) for chosen in (subjects[:3], moved))
    assert min(dice_per_label(there.labels, here.labels).values()) > 0.95


@pytest.mark.skipif(not STATUS.exists(), reason="a system that does not tell a process' memory")
def test_memory_does_not_grow_with_the_number_of_subjects(subjects, model, monkeypatch):
    """Maps of 6 MB each, several copies of the one that is looked at: subjects in memory would be 30 MB each."""

    def registered(image, template, *_, **__):
        bent = placed(np.full((64, 64, 64, 3), 0.5), replace(Grid.of(template), size=(64, 64, 64)), vectors=True)
        return SimpleNamespace(inverse=chain(sitk.AffineTransform(3), sitk.DisplacementFieldTransform(bent)))

    def most_mb(count):
        held = []
        many = [replace(subjects[n % 3], name=str(n)) for n in range(count)]
        build_atlas(many, model=model, rounds=1, progress=lambda *_: held.append(anonymous_mb()))
        return max(held)

    monkeypatch.setattr("CLMorphCore.bundles.template.register", registered)
    monkeypatch.setattr("CLMorphCore.bundles.template.first_alignment", lambda *_, **__: sitk.AffineTransform(3))
    most_mb(2)
    few, many = most_mb(3), most_mb(9)
    assert many - few < 60


def test_the_typical_subject_is_one_of_the_labelled(subjects):
    built = build_atlas(subjects, typical=True)
    chosen = next(s for s in subjects if s.name == built.name)
    assert chosen.labels is not None
    same = sitk.ReadImage(str(chosen.image))
    assert np.array_equal(sitk.GetArrayViewFromImage(built.image), sitk.GetArrayViewFromImage(same))


def test_an_atlas_is_cut_to_its_labels_and_a_margin(subjects):
    whole, cut = (build_atlas(subjects[:3], typical=True, margin_mm=margin) for margin in (None, 5.0))
    inside = sitk.GetArrayFromImage(cut.labels)
    assert (inside > 0).sum() == (sitk.GetArrayFromImage(whole.labels) > 0).sum()
    for axis, spacing in enumerate(cut.labels.GetSpacing()[::-1]):
        where = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        wide = np.ceil(5.0 / spacing)
        assert where[0] <= wide and inside.shape[axis] - 1 - where[-1] <= wide
    assert np.prod(cut.image.GetSize()) < np.prod(whole.image.GetSize())
    there = sitk.Resample(whole.image, cut.image, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(sitk.GetArrayFromImage(there), sitk.GetArrayFromImage(cut.image))


def test_names_are_taken_from_the_table_and_must_be_complete(subjects, monkeypatch):
    names = tuple(Structure(v, f"Part {v}", "#112233") for v in (1, 2, 3, 8))
    built = build_atlas(subjects[:2], structures=names)
    assert [s.name for s in built.structures] == ["Part 1", "Part 2", "Part 3"]
    monkeypatch.setattr("CLMorphCore.bundles.template.first_alignment", lambda *_, **__: pytest.fail("aligned first"))
    for build in (build_atlas, build_each):
        with pytest.raises(InputError, match=r"the labels \[3\] have no name; add them"):
            build(subjects[:2], structures=names[:2])


def test_only_the_train_split_is_used(subjects):
    with pytest.raises(InputError, match="no subject with split train has labels"):
        build_atlas([replace(s, split="test") for s in subjects])


def test_building_can_be_cancelled(subjects):
    def stop(step, fraction):
        if fraction > 0.1:
            raise Cancelled

    with pytest.raises(Cancelled):
        build_atlas(subjects, progress=stop)


def test_the_command_writes_an_atlas_that_can_be_read(subjects, clmorph, tmp_path):
    rows = "".join(f"{s.name},{s.image},{s.labels or ''},train\n" for s in subjects[:2])
    (tmp_path / "data.csv").write_text("subject,image,labels,split\n" + rows, encoding="utf-8")
    ran = clmorph("build-atlas", "--data", tmp_path / "data.csv", "-o", tmp_path / "mean")
    assert ran.code == 0 and "an atlas of 3 structures" in ran.out
    found = read_atlas(tmp_path / "mean")
    assert found.name == "mean" and [s.name for s in found.structures] == ["Label 1", "Label 2", "Label 3"]


def test_each_subject_becomes_an_atlas_and_replaces_an_earlier_one(subjects, clmorph, tmp_path):
    (tmp_path / "data.csv").write_text(
        "subject,image,labels,split\n" + "".join(f"{s.name},{s.image},{s.labels},train\n" for s in subjects[:2]),
        encoding="utf-8",
    )
    (tmp_path / "each" / "0").mkdir(parents=True)
    for name in ("image.nii.gz", "labels.nii.gz", "labels.csv", "mine"):
        (tmp_path / "each" / "0" / name).write_text("old")
    ran = clmorph("build-atlas", "--each", "--data", tmp_path / "data.csv", "-o", tmp_path / "each")
    assert ran.code == 0 and [p.name for p in sorted((tmp_path / "each").iterdir())] == ["0", "1"]
    assert (tmp_path / "each" / "0" / "mine").exists() and read_atlas(tmp_path / "each" / "0").name == "0"
