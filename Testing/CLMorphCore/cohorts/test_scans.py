"""Which scans a cohort has, and where their results go."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from made_up import write_series

from CLMorphCore.cohorts.bids import describe_derivatives, find_bids
from CLMorphCore.cohorts.places import plain_place
from CLMorphCore.cohorts.scans import Cohort, Scan, find_cohort, shard_of
from CLMorphCore.cohorts.work import work
from CLMorphCore.errors import InputError, OutputError

SESSIONS = ("sub-04_ses-1", "sub-04_ses-2")


def names(cohort):
    return [scan.name for scan in cohort.scans]


@pytest.fixture
def data_set(tmp_path):
    """A BIDS data set: sessions, two runs, other suffixes, and participants without a T1w image; files are empty."""
    root = tmp_path / "bids"
    for path in (
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_run-2_T1w.nii",
        "sub-02/anat/sub-02_acq-fast_T1w.nii.gz",
        "sub-02/anat/sub-02_acq-fast_T1w.json",
        "sub-02/anat/sub-02_part-phase_T1w.nii.gz",
        "sub-03/anat/sub-03_T2w.nii.gz",
        "sub-04/ses-1/anat/sub-04_ses-1_T1w.nii.gz",
        "derivatives/other/sub-02/anat/sub-02_space-MNI_T1w.nii.gz",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "sub-04" / "ses-2").mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "made up", "BIDSVersion": "1.10.0"}))
    return root


def test_a_data_set_has_sessions_runs_and_lines_for_what_is_missing(data_set, tmp_path):
    cohort = find_cohort(data_set, tmp_path / "out")
    assert cohort.bids == data_set
    assert names(cohort) == [
        *("sub-01_ses-1", "sub-01_ses-2_run-1", "sub-01_ses-2_run-2", "sub-02_acq-fast", "sub-03"),
        *("sub-04_ses-1", "sub-04_ses-2"),
    ]
    missing = {scan.name: scan.missing for scan in cohort.scans if scan.missing}
    assert missing == {
        "sub-03": f"no T1w image in {data_set / 'sub-03'}",
        "sub-04_ses-2": f"no T1w image in {data_set / 'sub-04' / 'ses-2'}",
    }


def test_results_lie_where_the_derivatives_of_a_data_set_do(data_set, tmp_path):
    scan = find_cohort(data_set, tmp_path / "out").scans[1]
    place = scan.place
    assert place.folder == tmp_path / "out" / "sub-01" / "ses-2" / "anat"
    assert place.labels == "sub-01_ses-2_run-1_desc-clmorph_dseg.nii.gz"
    assert place.record == "sub-01_ses-2_run-1_desc-clmorph_dseg.json"
    assert place.name("table") == "sub-01_ses-2_run-1_desc-clmorph_dseg.tsv"
    assert place.name("transform") == "sub-01_ses-2_run-1_from-T1w_to-atlas_mode-image_xfm.h5"
    assert place.source == "sub-01/ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz"
    every = [name for s in find_cohort(data_set, tmp_path / "out").scans for name in (*s.place.results, s.place.failed)]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"participants": ["01", "sub-02"]}, ["01_ses-1", "01_ses-2_run-1", "01_ses-2_run-2", "02_acq-fast"]),
        ({"sessions": ["1"]}, ["01_ses-1", "04_ses-1"]),
        ({"participants": ["04"], "sessions": ["ses-1"]}, ["04_ses-1"]),
        ({"participants": ["01", "77"], "sessions": ["1"]}, ["01_ses-1", "77"]),
        ({"suffix": "T2w", "participants": ["03"]}, ["03"]),
    ],
)
def test_participants_sessions_and_suffix_are_chosen(data_set, tmp_path, chosen, expected):
    assert names(find_cohort(data_set, tmp_path / "out", **chosen)) == [f"sub-{name}" for name in expected]


def test_a_data_set_without_such_an_image_says_which_there_are(data_set, tmp_path):
    with pytest.raises(InputError, match=r"no image of the suffix FLAIR .* of the kinds T1w, T2w"):
        find_cohort(data_set, tmp_path / "out", suffix="FLAIR")
    with pytest.raises(InputError, match="is no BIDS data set"):
        find_cohort(data_set / "sub-01" / "ses-1" / "anat", tmp_path / "out", participants=["01"])


def test_derivatives_are_described_once_and_those_of_others_are_left_alone(data_set, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    describe_derivatives(out, data_set, "T1w")
    described = (out / "dataset_description.json").read_bytes()
    tree = json.loads(described)
    assert tree["DatasetType"] == "derivative" and tree["GeneratedBy"][0]["Name"] == "CLMorph"
    assert tree["DatasetLinks"]["raw"] == data_set.as_uri()
    describe_derivatives(out, data_set, "T1w")
    assert (out / "dataset_description.json").read_bytes() == described
    with pytest.raises(OutputError, match="does not say that CLMorph has made"):
        describe_derivatives(data_set, data_set, "T1w")


def test_a_folder_has_files_and_series_but_not_its_own_results(scans, tmp_path):
    image = sitk.ReadImage(str(scans / "a.nii.gz"))
    write_series(scans / "series", image)
    (scans / "out").mkdir()
    shutil.copy(scans / "b.nii.gz", scans / "out" / "warped.nii.gz")
    assert names(find_cohort(scans, scans / "out")) == ["a", "b", "c", "d", "series"]
    assert find_cohort(scans, tmp_path / "out").scans[0].place == plain_place(tmp_path / "out", "a")


@pytest.mark.parametrize("kind", ["list", "manifest"])
def test_a_file_that_is_gone_is_a_scan_that_will_fail(scans, tmp_path, kind):
    data = tmp_path / ("scans.txt" if kind == "list" else "scans.csv")
    rows = ["# both", "scans/a.nii.gz", "", "scans/gone.nii.gz", "scans/a.nii.gz"]
    if kind == "manifest":
        rows = ["subject,image", "a,scans/a.nii.gz", "gone,scans/gone.nii.gz"]
    data.write_text("\n".join(rows), encoding="utf-8")
    cohort = find_cohort(data, tmp_path / "out")
    assert names(cohort) == ["a", "gone"] and cohort.scans[1].image == scans / "gone.nii.gz"


def test_two_scans_of_one_place_are_refused(scans, tmp_path):
    data = tmp_path / "scans.csv"
    data.write_text("subject,image\nA,scans/a.nii.gz\na,scans/b.nii.gz\n", encoding="utf-8")
    with pytest.raises(InputError, match="would have one folder"):
        find_cohort(data, tmp_path / "out")


@given(st.integers(0, 40), st.integers(1, 12))
def test_shards_are_disjoint_alike_and_together_everything(scans, count):
    cohort = Cohort(tuple(Scan(str(n), Path(str(n)), plain_place(Path("out"), str(n))) for n in range(scans)))
    shares = [shard_of(cohort, (number, count)).scans for number in range(1, count + 1)]
    assert sorted(int(scan.name) for share in shares for scan in share) == list(range(scans))
    assert np.ptp([len(share) for share in shares]) <= 1


def test_a_link_to_nowhere_in_a_data_set_is_a_scan_that_will_fail(data_set):
    path = data_set / "sub-05" / "anat" / "sub-05_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    path.symlink_to(data_set / "not fetched")
    assert [each.entities for each in find_bids(data_set, "T1w", ["05", "02"])] == ["sub-02_acq-fast", "sub-05"]


def test_an_image_in_two_formats_and_one_behind_a_link_count_once(scans, tmp_path):
    image = sitk.ReadImage(str(scans / "a.nii.gz"))
    sitk.WriteImage(image, str(scans / "a.nii"))
    (scans / "z.nii.gz").symlink_to(scans / "b.nii.gz")
    cohort = find_cohort(scans, tmp_path / "out")
    assert names(cohort) == ["a", "b", "c", "d"]
    assert [note.partition("format: ")[2] for note in cohort.notes] == ["2 files (a.nii.gz, z.nii.gz)"]
    (tmp_path / "scans.txt").write_text("scans/b.nii.gz\nscans/../scans/b.nii.gz\nscans/z.nii.gz", encoding="utf-8")
    assert names(find_cohort(tmp_path / "scans.txt", tmp_path / "out")) == ["b"]
    shutil.copytree(scans, tmp_path / "others")
    (tmp_path / "scans.txt").write_text("scans/../scans/b.nii.gz\nscans/../others/b.nii.gz", encoding="utf-8")
    assert names(find_cohort(tmp_path / "scans.txt", tmp_path / "out")) == ["scans", "others"]


def test_an_image_of_a_data_set_in_two_formats_is_one_scan(data_set, tmp_path):
    (data_set / "sub-02" / "anat" / "sub-02_acq-fast_T1w.nii").touch()
    cohort = find_cohort(data_set, tmp_path / "out", participants=["02"])
    assert names(cohort) == ["sub-02_acq-fast"]
    assert len(cohort.notes) == 1 and "sub-02_acq-fast_T1w.nii.gz)" in cohort.notes[0]


def test_an_image_under_another_participants_name_is_a_row_that_says_so(data_set, tmp_path):
    (data_set / "sub-03" / "anat" / "sub-02_acq-fast_T1w.nii.gz").touch()
    cohort = find_cohort(data_set, tmp_path / "out", participants=["02", "03"])
    assert names(cohort) == ["sub-02_acq-fast", "sub-03"]
    assert "begin with sub-03_" in cohort.scans[1].missing and not cohort.scans[0].missing


def test_an_image_beside_sessions_is_a_scan_too(data_set, tmp_path):
    (data_set / "sub-04" / "anat").mkdir()
    (data_set / "sub-04" / "anat" / "sub-04_T1w.nii.gz").touch()
    assert names(find_cohort(data_set, tmp_path / "out", participants=["04"])) == ["sub-04", *SESSIONS]
    assert names(find_cohort(data_set, tmp_path / "out", participants=["04"], sessions=["1"])) == [SESSIONS[0]]


def test_results_below_a_folder_are_no_scans_and_the_scan_beside_its_results_is_one(scans, settings, tmp_path):
    for name in ("a", "b", "c"):
        (scans / name).mkdir()
        (scans / f"{name}.nii.gz").rename(scans / name / "scan.nii.gz")
    (scans / "d.nii.gz").unlink()
    kept = replace(settings, keep=("images", "page"))
    for scan in find_cohort(scans, scans / "out").scans:
        assert work(scan, kept, kept.made()).failure == ""
    shutil.copytree(scans / "out" / "a", scans / "a", dirs_exist_ok=True)
    for out in (scans / "out", tmp_path / "elsewhere"):
        cohort = find_cohort(scans, out)
        assert names(cohort) == ["a", "b", "c"] and cohort.notes == ()
        assert {scan.image.name for scan in cohort.scans} == {"scan.nii.gz"}


def test_series_on_a_disk_with_an_index_and_a_note_are_found(scans, tmp_path):
    disk, image = tmp_path / "disk", sitk.ReadImage(str(scans / "a.nii.gz"))
    disk.mkdir()
    for name in ("S1", "S2"):
        write_series(disk / name, image)
        (disk / name / "!note.txt").write_text("of the archive", encoding="utf-8")
    shutil.copy(next((disk / "S1").glob("*.dcm")), disk / "DICOMDIR")
    assert names(find_cohort(disk, tmp_path / "out")) == ["S1", "S2"]


def test_a_manifest_may_tell_more_of_subjects(scans, tmp_path):
    data = tmp_path / "scans.csv"
    data.write_text("subject,image,age,split\na,scans/a.nii.gz,61,discovery\n", encoding="utf-8")
    assert names(find_cohort(data, tmp_path / "out")) == ["a"]
    data.write_text("subject;image\na;scans/a.nii.gz\n", encoding="utf-8")
    with pytest.raises(InputError, match="separated by semicolons"):
        find_cohort(data, tmp_path / "out")


def test_one_image_is_no_cohort(scans, tmp_path):
    with pytest.raises(InputError, match=r"a\.nii\.gz is one image"):
        find_cohort(scans / "a.nii.gz", tmp_path / "out")
