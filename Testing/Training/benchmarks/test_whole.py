"""The figures of ``python -m Training.benchmarks.whole``, of a small model."""

import csv

import pytest
import SimpleITK as sitk
from made_up import ellipsoid_atlas, fresh_model

from CLMorphCore.bundles.phantom import make_phantom
from Training.benchmarks import whole


@pytest.fixture
def model(tmp_path):
    return fresh_model(tmp_path / "fresh", ellipsoid_atlas((26, 32, 24)))


def test_a_scan_is_measured_and_the_rows_of_others_stay(model, tmp_path, capsys):
    image = tmp_path / "scan.nii.gz"
    sitk.WriteImage(make_phantom(ellipsoid_atlas((26, 32, 24)), seed=1).image, str(image))
    table = tmp_path / "segment.csv"
    table.write_text("scan,model,seconds,peak_gb,measured_with,runs\nold,brain,16.1,2.02,brain 1.5,median of 3\n")
    assert whole.main([f"one={model}={image}", "--runs", "1", "-o", str(table)]) == 0
    with table.open(newline="", encoding="utf-8") as file:
        old, new = csv.DictReader(file)
    assert (old["scan"], old["seconds"]) == ("old", "16.1") and (new["scan"], new["runs"]) == ("one", "1")
    assert 0.5 < float(new["seconds"]) < 120 and 0.1 < float(new["peak_gb"]) < 4
    assert f"one: {new['seconds']} s, {new['peak_gb']} GB" in capsys.readouterr().out


def test_what_cannot_be_measured_is_one_line(model, tmp_path, capsys):
    assert whole.main(["brain.nii.gz", "-o", str(tmp_path / "t.csv")]) == 2
    assert "expected WHAT=MODEL=IMAGE" in capsys.readouterr().err
    assert whole.main([f"one={model}=brain.nii.gz", "--runs", "0", "-o", str(tmp_path / "t.csv")]) == 2
    assert "--runs 0, --threads 2: expected one or more" in capsys.readouterr().err
    assert whole.main([f"one={model}={tmp_path / 'none.nii.gz'}", "--runs", "1", "-o", str(tmp_path / "t.csv")]) == 2
    assert "none.nii.gz" in capsys.readouterr().err and not (tmp_path / "t.csv").exists()
