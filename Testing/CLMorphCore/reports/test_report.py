"""report.json is one typed value: what is written is read, and what an earlier version wrote is read too."""

import json

import pytest

from CLMorphCore.errors import FileError
from CLMorphCore.reports.report import SCHEMA, Report, with_total

# As version 0.1 wrote it, with a supervised network's labels.
FORMER = {
    "version": "0.1.0",
    "image": "scan.nii.gz",
    "created": "2026-03-04T15:06:00+01:00",
    "model": {"name": "brain", "version": "1.2", "licence": "CC BY-NC-SA 3.0", "commit": "abc1234"},
    "atlas": {"name": "average"},
    "labels_from": "network",
    "device": "cpu",
    "threads": 2,
    "refinement_steps": 0,
    "structures": [
        {"value": 17, "name": "Hippocampus", "color": "#d8654f", "terminology": "", "volume_ml": 3.1,
         "uncertainty": 0.1, "quality": None}
    ],
    "quality": {"expected_dice": 0.7, "oddness": 1.5, "note": ""},
    "similarity": {"measure": "local normalised cross-correlation", "affine": 0.4, "warped": 0.7},
    "folding_fraction": 0.0,
    "duration_s": {"affine": 1.5, "network": 4.0, "total": 5.5},
    "warnings": ["look at it"],
    "fusion": {"method": "staple", "atlases": ["a", "b"]},
}  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    report = Report.from_dict({**FORMER, "schema": SCHEMA})
    report.save(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report


def test_a_report_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(FORMER), encoding="utf-8")
    report = Report.read(tmp_path / "report.json")
    assert report.schema == 1 and report.labels_from == "network"
    assert report.quality.outlier_score == 1.5 and report.structures[0].name == "Hippocampus"
    assert report.fusion is not None and report.fusion.atlases == ("a", "b")


def test_verdict_and_intervals_come_back_from_the_file(tmp_path):
    told = {**FORMER, "quality": {"expected_dice": 0.7, "outlier_score": 0.5, "verdict": "pass", "reason": ""}}
    told["structures"] = [{**FORMER["structures"][0], "quality": 0.7, "quality_interval": [0.6, 0.8]}]
    report = Report.from_dict(told)
    assert report.quality.verdict == "pass" and report.structures[0].quality_interval == (0.6, 0.8)
    report.save(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == report


def test_what_a_later_version_adds_is_passed_over():
    report = Report.from_dict({**FORMER, "schema": 99, "mood": "good", "atlas": {"name": "average", "age": 3}})
    assert report.atlas.name == "average" and report.schema == 99


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"quality": 3}', "\x00"])
def test_what_is_no_report_is_refused(text, tmp_path):
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match="cannot be read as a report"):
        Report.read(tmp_path / "report.json")


def test_times_of_further_steps_make_another_report():
    report = Report.from_dict(FORMER)
    later = report.with_durations({"writing": 2.0})
    assert later.duration_s == {"affine": 1.5, "network": 4.0, "writing": 2.0, "total": 7.5}
    assert report.duration_s["total"] == 5.5
    assert list(with_total({"total": 9.0, "a": 1.0})) == ["a", "total"]
