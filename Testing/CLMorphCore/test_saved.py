"""What the library saves replaces an earlier run's results, and nothing else, as the commands do."""

import hashlib
from dataclasses import replace

import pytest
import SimpleITK as sitk

from CLMorphCore.bundles.atlas import make_atlas, save_atlas
from CLMorphCore.errors import OutputError
from CLMorphCore.evaluation import Evaluation
from CLMorphCore.io.images import read_image
from CLMorphCore.reports.evaluation import Agreement, Summary
from CLMorphCore.segmentation import segment

SAVED = ("segmentation", "registration", "atlas", "evaluation")


@pytest.fixture(scope="module")
def segmented(phantom, model):
    return segment(phantom.image, model)


@pytest.fixture(scope="module")
def found(segmented):
    return segmented.registration


@pytest.fixture(scope="module")
def save(segmented, found, atlas):
    row = Agreement("a", 1, "A", "found", 0.5, 0.6, 3.0, 2.0, 1.0, 5.0)
    summary = Summary("tiny", "test", 1, 0.5, 0.6, 0.0, 2.0, 1.0, 0.0, 0.0, 1.0, ())
    return {
        "segmentation": segmented.save,
        "registration": found.save,
        "atlas": lambda folder: save_atlas(folder, atlas),
        "evaluation": Evaluation((row,), summary).save,
    }


def contents(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize("what", SAVED)
def test_it_is_saved_again_and_what_else_is_there_stays(what, save, tmp_path):
    folder = tmp_path / "out"
    save[what](folder)
    first = set(contents(folder))
    assert first and not any(name.startswith(".") for name in first)
    (folder / "notes.txt").write_text("mine")
    save[what](folder)
    assert set(contents(folder)) == first | {"notes.txt"}


@pytest.mark.parametrize("what", SAVED)
def test_a_file_under_the_name_of_any_result_is_kept(what, save, tmp_path):
    save[what](tmp_path / "names")
    for name in contents(tmp_path / "names"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("drawn by hand for a week")
        before = contents(folder)
        with pytest.raises(OutputError, match=f"{name} is there already, and no .* tells that an earlier run"):
            save[what](folder)
        assert contents(folder) == before


def test_an_inverse_of_an_earlier_run_does_not_stay_beside_another_transform(found, tmp_path):
    found.save(tmp_path)
    assert (tmp_path / "inverse.h5").exists()
    replace(found, inverse=None).save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"transform.h5", "affine.h5"}


def test_a_scan_that_has_a_results_name_is_kept_although_a_report_is_there(phantom, model, segmented, tmp_path):
    segmented.save(tmp_path)
    sitk.WriteImage(phantom.image, str(tmp_path / "warped.nii.gz"))
    before = contents(tmp_path)
    again = segment(read_image(tmp_path / "warped.nii.gz"), model, affine=sitk.AffineTransform(3))
    with pytest.raises(OutputError, match=r"warped.nii.gz would replace .*, which is read"):
        again.save(tmp_path)
    assert contents(tmp_path) == before


def test_an_atlas_is_not_saved_over_the_files_that_it_is_of(atlas, tmp_path):
    save_atlas(tmp_path, atlas)
    before = contents(tmp_path)
    own = make_atlas("own", tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz", None)
    with pytest.raises(OutputError, match="which is read"):
        save_atlas(tmp_path, own)
    assert contents(tmp_path) == before
