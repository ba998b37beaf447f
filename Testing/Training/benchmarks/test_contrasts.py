"""Agreement of labels between contrasts: on one grid, by the transforms between them."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import ellipsoid_atlas, fresh_model

from Training.benchmarks import contrasts


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A patient with three scans of one phantom: FLAIR as it is, the others 7 mm to the side, with their transforms."""
    folder = tmp_path_factory.mktemp("sessions") / "patient01"
    folder.mkdir()
    atlas = ellipsoid_atlas()
    for contrast, shift in (("T1W", 7.0), ("T2W", 7.0), ("FLAIR", 0.0)):
        image = sitk.Cast(atlas.image, sitk.sitkFloat32)
        image.SetOrigin([o + shift for o in image.GetOrigin()])
        sitk.WriteImage(image, str(folder / f"study1_{contrast}.nii.gz"))
        mask = sitk.Cast(image > 0, sitk.sitkUInt8)
        mask.SetOrigin((0.0, 0.0, 0.0))  # as ragged masks come
        sitk.WriteImage(mask, str(folder / f"study1_{contrast}_brainmask.nii.gz"))
        if shift:
            there = sitk.TranslationTransform(3, [shift] * 3)
            sitk.WriteTransform(there, str(folder / f"study1_{contrast}_intrastudy_to_FLAIR.txt"))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fresh_model(tmp_path_factory.mktemp("models") / "fresh", ellipsoid_atlas())


def test_the_same_scan_elsewhere_has_the_same_labels_on_the_target(session, model, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(contrasts, "MIN_ML", 0.0)
    folder = tmp_path / "figures.json"
    assert contrasts.main(["--data", str(session.parent), "--model", str(model), "--figures", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["patient01", "T2W"], ["patient01", "FLAIR"]]
    for line in lines:
        assert float(line.split()[3]) > 0.97


def test_a_scan_is_nothing_outside_its_mask(session):
    image = contrasts.stripped(session, "T1W")
    values = sitk.GetArrayFromImage(image)
    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(session / "study1_T1W.nii.gz")))
    assert np.array_equal(values > 0, whole > 0) and values.min() == 0


def test_a_folder_without_patients_is_one_line(tmp_path, capsys):
    assert contrasts.main(["--data", str(tmp_path)]) == 2
    assert "has no PATIENT/study1_T1W.nii.gz" in capsys.readouterr().err
