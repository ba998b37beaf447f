"""The pairs that a training sees: two subjects, the reference, or two scans of one patient."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import InputError, OutputError
from CLMorphCore.io.manifest import Subject
from CLMorphCore.io.scratch import lasting_array
from CLMorphCore.networks import build
from CLMorphCore.training import batches
from CLMorphCore.training.batches import draw_batch, load_dataset, partner

TREE = {
    "network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8},
    "data": {"spacing_mm": [2.0, 2.0, 2.0], "affine": False},
    "augment": {"flip": "none", "rotation_degrees": 0.0},
    "training": {"batch_size": 2},
}


@pytest.fixture(scope="module")
def subjects(atlas, tmp_path_factory):
    """Two patients with two scans each, the second one's grid smaller and elsewhere."""
    folder = tmp_path_factory.mktemp("subjects")
    made = []
    for seed in range(4):
        phantom = make_phantom(atlas, seed=seed)
        files = [folder / f"{seed}-{kind}.nii.gz" for kind in ("image", "labels")]
        for image, file in zip((phantom.image, phantom.labels), files, strict=True):
            if seed >= 2:
                image = sitk.RegionOfInterest(image, [n - 8 for n in image.GetSize()], [4, 4, 4])
                image.SetOrigin((100.0, -50.0, 7.0))
            sitk.WriteImage(image, str(file))
        made.append(Subject(f"s{seed}", *files, "train", f"patient{seed // 2}"))
    return made


def network_of(config):
    return build(config.network.name, config.network.settings)


def test_a_pair_is_two_subjects_and_every_step_another_draw(subjects):
    config = from_dict(TREE)
    data = load_dataset(config, subjects[:2], divisor=(4, 4, 4))
    for step in range(5):
        batch, again = (draw_batch(data, config, network_of(config), step) for _ in range(2))
        assert batch.fixed.shape[0] == 2 and not torch.equal(batch.fixed[0], batch.moving[0])
        assert torch.equal(batch.fixed, again.fixed) and torch.equal(batch.moving, again.moving)


def test_a_pair_of_a_group_is_one_patients_two_scans_on_the_grid_of_the_first(subjects):
    config = from_dict(TREE | {"training": {"batch_size": 2, "moving": "group"}})
    data = load_dataset(config, subjects, divisor=(4, 4, 4))
    assert len({v.image.shape for v in data.train}) == 1 and data.reference is None
    images = {id(v.image): v for v in data.train}
    for at, volume in enumerate(data.train):
        other = partner(data.train, at)
        assert other.group == volume.group and other.name != volume.name and id(other.image) in images
    batch = draw_batch(data, config, network_of(config), 0)
    for fixed, moving in zip(batch.fixed, batch.moving, strict=True):
        found = [next(v for v in data.train if torch.equal(v.image[0], x)) for x in (fixed, moving)]
        assert found[0].group == found[1].group and found[0].name != found[1].name


def test_mixed_pairs_are_of_one_patient_or_of_two(subjects):
    config = from_dict(TREE | {"training": {"batch_size": 2, "moving": "mixed"}})
    data = load_dataset(config, subjects, divisor=(4, 4, 4))
    same = 0
    for step in range(20):
        batch = draw_batch(data, config, network_of(config), step)
        for fixed, moving in zip(batch.fixed, batch.moving, strict=True):
            first, second = (next(v for v in data.train if torch.equal(v.image[0], x)) for x in (fixed, moving))
            assert first.name != second.name
            same += first.group == second.group
    assert 20 < same < 40  # half of the pairs, and a third of the others


def test_a_scan_alone_in_its_group_is_named(subjects):
    config = from_dict(TREE | {"training": {"moving": "group"}})
    alone = [*subjects[:3], replace(subjects[3], group="")]
    with pytest.raises(InputError, match=r"2 subjects have no other image in their group: s2, s3; fill the manifest"):
        load_dataset(config, alone, divisor=(4, 4, 4))


def test_volumes_that_memory_does_not_hold_are_read_from_a_file_and_are_the_same(subjects, monkeypatch):
    config, made = from_dict(TREE), []
    mixed = [subjects[0], replace(subjects[1], labels=None), replace(subjects[1], name="v", split="validation")]
    held = load_dataset(config, mixed, divisor=(4, 4, 4))

    def lasting(*words):
        made.append(lasting_array(*words))
        return made[-1]

    monkeypatch.setattr(batches, "lasting_array", lasting)
    monkeypatch.setattr(batches, "memory_gb", lambda device: 1e-3)
    read = load_dataset(config, mixed, divisor=(4, 4, 4))
    assert [len(each) for each in made] == [3, 2] and all(isinstance(each, np.memmap) for each in made)
    for one, other in zip([*held.train, *held.validation], [*read.train, *read.validation], strict=True):
        assert one.name == other.name and torch.equal(one.image, other.image)
        assert (one.labels is None) == (other.labels is None)
        assert one.labels is None or (torch.equal(one.labels, other.labels) and one.labels.dtype == other.labels.dtype)
    images, labels = made
    assert np.shares_memory(images, read.train[1].image.numpy()) and np.shares_memory(
        labels, read.train[0].labels.numpy()
    )
    for step in range(3):
        pairs = [draw_batch(data, config, network_of(config), step) for data in (held, read)]
        assert torch.equal(pairs[0].fixed, pairs[1].fixed) and torch.equal(pairs[0].moving, pairs[1].moving)


def test_no_room_on_the_disk_either_is_said_in_words(subjects, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batches, "memory_gb", lambda device: 1e-3)
    monkeypatch.setattr("CLMorphCore.io.scratch._reserve", full)
    with pytest.raises(OutputError, match=r"No space left on device.*coarser data\.spacing_mm, or fewer scans"):
        load_dataset(from_dict(TREE), subjects[:2], divisor=(4, 4, 4))
