"""What the scans tell together: outliers, the table, and a page that needs nothing else."""

import csv
import re
from html import unescape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from CLMorphCore.cohorts.scans import Cohort, find_cohort
from CLMorphCore.cohorts.tables import MAX_ROBUST_Z, row_of, with_outliers, write_summary
from CLMorphCore.cohorts.work import work
from CLMorphCore.reports.cohort import DONE, FAILED, Row, Summary, cohort_page

ABOUT = {"source": "scans", "model": "small"}
volumes = st.lists(st.floats(1e-3, 1e3), min_size=8, max_size=40)


def row(name, volume, **values):
    return Row(name, DONE, volumes_ml={"Thing": volume}, **values)


@given(volumes, st.floats(0.01, 100.0))
def test_outliers_do_not_depend_on_the_unit(values, factor):
    one = [set(r.outliers) for r in with_outliers([row(str(n), v) for n, v in enumerate(values)])]
    other = [set(r.outliers) for r in with_outliers([row(str(n), v * factor) for n, v in enumerate(values)])]
    logs = np.log(values)
    spread = 1.4826 * np.median(abs(logs - np.median(logs)))
    z = abs(logs - np.median(logs)) / spread if spread > 1e-9 else np.zeros(len(logs))
    sure = abs(z - MAX_ROBUST_Z) > 1e-6
    assert [a for a, s in zip(one, sure, strict=True) if s] == [b for b, s in zip(other, sure, strict=True) if s]
    if spread > 1e-9:
        assert all(bool(found) == (far > MAX_ROBUST_Z) for found, far, s in zip(one, z, sure, strict=True) if s)


def test_one_of_double_volume_is_an_outlier_and_few_scans_have_none():
    rows = [row(str(n), 3.0 * (1 + 0.01 * (n % 5))) for n in range(20)]
    found = with_outliers([*rows, row("twice", 6.0), row("gone", 0.0)])
    assert [r.name for r in found if r.outliers] == ["twice", "gone"]
    assert found[-2].outliers["Thing"] > MAX_ROBUST_Z and found[-1].outliers["Thing"] == -np.inf
    assert not any(r.outliers for r in with_outliers([*rows[:6], row("twice", 6.0)]))


def test_table_and_page_have_every_scan_once(scans, settings, tmp_path):
    made, out = settings.made(), tmp_path / "out"
    (scans / "=cmd.nii.gz").write_bytes((scans / "b.nii.gz").read_bytes())
    (scans / "d.nii.gz").write_bytes((scans / "d.nii.gz").read_bytes()[:1000])
    cohort = find_cohort(scans, out)
    done = [scan for scan in cohort.scans if scan.name != "c"]
    for scan in done:
        work(scan, settings, made)
    write_summary(cohort.scans, out, made.settings, ABOUT)
    rows = list(csv.DictReader((out / "volumes.csv").open(encoding="utf-8", newline="")))
    assert [(r["scan"], r["verdict"]) for r in rows] == [
        ("'=cmd", "done"),
        ("a", "done"),
        ("b", "done"),
        ("c", "waiting"),
        ("d", "failed"),
    ]
    assert "cut off" in rows[-1]["reason"] and rows[-1]["Left (ml)"] == ""
    report = row_of(cohort.scans[1], out, made.settings)
    assert float(rows[1]["Left (ml)"]) == pytest.approx(report.volumes_ml["Left"], rel=1e-5)
    page = (out / "cohort.html").read_text(encoding="ascii")
    assert page.count("<img ") == 3 and 'href="a/labels.nii.gz"' in page and 'href="%3Dcmd/labels.nii.gz"' in page
    assert "cut off" in page and not re.search(r'(src|href)="(?!data:|volumes\.csv|[\w%]+/)', page)

    before = (out / "volumes.csv").read_bytes()
    write_summary(cohort.scans, out, made.settings, ABOUT)  # at any time again
    assert (out / "volumes.csv").read_bytes() == before


def test_a_missing_session_is_a_row_and_results_of_other_settings_are_none(scans, settings, tmp_path):
    made, out = settings.made(), tmp_path / "out"
    cohort = find_cohort(scans, out)
    work(cohort.scans[0], settings, made)
    assert row_of(cohort.scans[0], out, made.settings).status == DONE
    assert row_of(cohort.scans[0], out, "other settings").standing == "waiting"
    missing = Cohort((cohort.scans[1].__class__("s", scans, cohort.scans[1].place, "no T1w image"),)).scans[0]
    assert row_of(missing, out, made.settings) == Row("s", FAILED, reason="no T1w image")


def test_the_worst_come_first_and_are_counted():
    rows = [
        row("good", 1.0, verdict="pass", quality=0.9),
        row("odd", 1.0, verdict="pass", quality=0.95, outliers={"Thing": 5.2}),
        row("worse", 1.0, verdict="pass", quality=0.7),
        row("look", 1.0, verdict="review", quality=0.6, reason="a low Dice is to be expected"),
        row("bad", 1.0, verdict="reject", quality=0.2),
        Row("<b>gone</b>", FAILED, reason="cannot be read: <script>"),
    ]
    page = unescape(cohort_page(rows, Summary("scans", "small", notes=("3 labels are no scans",))))
    order = re.findall(r'class="name">(\w+)', page)
    assert order == ["bad", "look", "odd", "worse", "good"]
    counts = dict(re.findall(r"<dt>(\w[\w ]*)</dt><dd>(\d+)", page))
    assert counts == {"Pass": "3", "Review": "1", "Reject": "1", "Failed": "1", "Unusual volumes": "1", "Time": "0"}
    assert "Thing large (z +5.2)" in page and "3 labels are no scans" in page
    assert "<h1>Cohort scans: 6 scans</h1>" in page
    raw = cohort_page(rows, Summary("scans", "small"))
    assert "<script>" not in raw and "<b>gone" not in raw
