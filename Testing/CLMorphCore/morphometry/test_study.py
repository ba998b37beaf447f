"""A whole study through the command, of made-up scans whose growth is known; files, page and one-line errors."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from made_up import off_grid
from made_up_cohort import growth, oblique_atlas, wobble, write_both_sides, write_result

from CLMorphCore import commands
from CLMorphCore.bundles.atlas import save_atlas
from CLMorphCore.geometry import Grid

SCANS = 16


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """16 scans of a bundle's atlas, half of them patients in whom a place in the left structure has grown.

    Their heads differ in size, and with age another place shrinks; the table and the two places (LPS, mm).
    """
    folder, atlas, random = tmp_path_factory.mktemp("cohort"), oblique_atlas(), np.random.default_rng(3)
    save_atlas(folder / "model" / "atlases" / atlas.name, atlas)
    (folder / "model" / "weights.safetensors").write_bytes(b"")
    grid = Grid.of(atlas.image)
    labels = sitk.GetArrayFromImage(atlas.labels)
    grown, shrunk = (grid.points_mm(np.argwhere(labels == value).mean(axis=0)[None])[0] for value in (1, 2))
    rows = []
    for n in range(SCANS):
        patient, age = n % 2, float(random.uniform(20, 80))
        moved = wobble(grid, random) + growth(grid, grown, 0.12 * patient)
        moved = moved + growth(grid, shrunk, -0.003 * (age - 50))
        size = sitk.AffineTransform(3)
        size.Scale(float(random.uniform(0.9, 1.1)))
        write_result(folder / f"s{n}", atlas, moved, size, verdict="review" if n == 3 else "pass")
        rows.append((f"s{n}", "patient" if patient else "control", f"{age:.1f}"))
    with (folder / "scans.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("result", "group", "age"), *rows])
    return folder, grown, shrunk


def run(clmorph, cohort, out, *words, design="group + age", table="scans.csv"):
    folder, _, _ = cohort
    given = ("--model", folder / "model", "--permutations", 199, *words)
    return clmorph("morphometry", folder / table, "-o", out, "--design", design, *given)


def distance(peak, place):
    return float(np.linalg.norm(np.array(peak["place_mm"]) - place))


def test_the_growth_is_found_where_it_was_planted(clmorph, cohort, tmp_path):
    out = tmp_path / "out"
    ran = run(clmorph, cohort, out, "--relative", "--fwhm", 5)
    assert ran.code == 0 and "1 of 16 scans have the verdict review" in ran.err and ran.err.count("\n") == 1
    record = json.loads((out / "morphometry.json").read_text(encoding="utf-8"))
    assert (record["scans"], record["volumes"], record["degrees_of_freedom"]) == (SCANS, "relative", 13)
    _, grown, shrunk = cohort
    group, age = record["terms"]
    first, other = group["peaks"][0], age["peaks"][0]
    assert group["contrast"] == "patient > control" and first["structure"] == "Left" and first["t"] > 0
    assert distance(first, grown) < 6 and first["low"] > 0 and first["p"] <= 0.05
    assert other["structure"] == "Right" and other["t"] < 0 and distance(other, shrunk) < 6
    t, p = (nib.load(out / f"group_{kind}.nii.gz") for kind in "tp")  # another reader: RAS
    highest = np.unravel_index(np.argmax(t.get_fdata()), t.shape)
    place = nib.affines.apply_affine(t.affine, highest) * [-1, -1, 1]
    assert np.linalg.norm(place - np.array(grown)) < 6 and p.get_fdata()[highest] < 0.05
    away = np.linalg.norm(
        nib.affines.apply_affine(p.affine, np.argwhere(p.get_fdata() < 0.05)) * [-1, -1, 1] - np.array(grown), axis=1
    )
    assert len(away) > 10 and np.mean(away < 10) > 0.8


def test_structures_have_the_same_design_and_their_known_effects(clmorph, cohort, tmp_path):
    assert run(clmorph, cohort, tmp_path / "out", "--relative").code == 0
    with (tmp_path / "out" / "structures.csv").open(encoding="utf-8") as file:
        rows = {(row["term"], row["structure"]): row for row in csv.DictReader(file)}
    left, right = rows["group", "Left"], rows["age", "Right"]
    assert float(left["p"]) < 0.05 and float(left["low"]) > 0 and left["effect_is"] == "Hedges' g"
    assert float(right["p"]) < 0.05 and float(right["high"]) < 0 and right["effect_is"] == "standardised β"
    assert float(rows["group", "Right"]["p"]) > 0.05 and float(rows["age", "Left"]["p"]) > 0.05
    assert float(left["low"]) < float(left["effect"]) < float(left["high"])


def test_total_volumes_are_blurred_by_the_size_of_the_heads(clmorph, cohort, tmp_path):
    """The default, and what it means: sizes differ by 10 %, volumes by 30 %."""
    assert run(clmorph, cohort, tmp_path / "total").code == 0
    assert run(clmorph, cohort, tmp_path / "relative", "--relative").code == 0
    peaks = []
    for name in ("total", "relative"):
        t = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name / "group_t.nii.gz")))
        peaks.append(t.max())
    assert json.loads((tmp_path / "total" / "morphometry.json").read_text(encoding="utf-8"))["volumes"] == "total"
    assert peaks[0] < 0.7 * peaks[1]


def test_the_page_shows_maps_peaks_and_effects(clmorph, cohort, tmp_path):
    words = ("--relative", "--tfce", "--permutations", 59)
    assert run(clmorph, cohort, tmp_path / "out", *words, design="group").code == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="ascii")
    for said in ("group: patient &gt; control", "Hedges", "threshold-free", "t on the atlas", "Relative volumes"):
        assert said in page
    assert page.count("data:image/png") >= 9 and "<script" not in page
    record = json.loads((tmp_path / "out" / "morphometry.json").read_text(encoding="utf-8"))
    assert record["corrected_by"] == "tfce" and record["terms"][0]["significant_voxels"] > 0


def test_a_mask_says_where_is_tested_and_the_same_call_gives_the_same(clmorph, cohort, tmp_path):
    folder, _, _ = cohort
    labels = sitk.ReadImage(str(folder / "model" / "atlases" / "ellipsoids" / "labels.nii.gz"))
    sitk.WriteImage(labels == 1, str(tmp_path / "mask.nii.gz"))
    words = ("--mask", tmp_path / "mask.nii.gz", "--fwhm", 0, "--relative")
    for name in ("a", "b"):
        assert run(clmorph, cohort, tmp_path / name, *words, design="group").code == 0
    tested = sitk.ReadImage(str(tmp_path / "a" / "mask.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(tested), sitk.GetArrayFromImage(labels == 1))
    assert (tmp_path / "a" / "group_p.nii.gz").read_bytes() == (tmp_path / "b" / "group_p.nii.gz").read_bytes()
    sitk.WriteImage(off_grid(labels == 1), str(tmp_path / "other.nii.gz"))
    ran = run(clmorph, cohort, tmp_path / "c", "--mask", tmp_path / "other.nii.gz", design="group")
    assert ran.code == 2 and "the mask lie on another grid than the atlas" in ran.err


@pytest.mark.parametrize(
    ("table", "design", "said"),
    [
        ("result,group\ns0,a\nnowhere,b\ns1,a\ns2,b\ns3,a\n", "group", "nowhere is no folder"),
        ("result,group\ns0,a\ns1,b\ns2,a\ns3,b\n", "group", "4 scans for a design of 1 terms"),
        ("result,group\ns0,a\ns1,a\ns2,a\ns3,a\ns4,a\ns5,a\n", "group", "group is a for every scan"),
        ("result,group\ns0,a\ns1,b\ns2,a\ns3,b\ns4,a\ns5,b\n", "sex", "--design sex: "),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(clmorph, cohort, tmp_path, table, design, said):
    folder, _, _ = cohort
    (folder / "bad.csv").write_text(table, encoding="utf-8")
    ran = run(clmorph, cohort, tmp_path / "out", design=design, table="bad.csv")
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_a_model_the_results_name_one_and_a_file_of_ones_own_is_kept(clmorph, cohort, tmp_path):
    folder, _, _ = cohort
    words = ("morphometry", folder / "scans.csv", "--design", "group", "--permutations", 9)
    ran = clmorph(*words, "-o", tmp_path / "out")
    assert ran.code == 2 and "segmented with the model made-up" in ran.err and "give --model as its folder" in ran.err
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.html").write_text("mine")
    ran = clmorph(*words, "-o", tmp_path / "own", "--model", folder / "model")
    assert ran.code == 2 and (tmp_path / "own" / "report.html").read_text(encoding="utf-8") == "mine"


def test_without_nilearn_one_line_says_what_to_install(clmorph, cohort, tmp_path, monkeypatch):
    from CLMorphCore.morphometry import statistics

    monkeypatch.setattr(statistics, "find_spec", lambda name: None)
    ran = run(clmorph, cohort, tmp_path / "out")
    assert ran.code == 2 and "pip install nilearn" in ran.err
    assert "morphometry" in commands.VERBS


def both_sides(folder, count=12):
    """Scans with both sides of an organ; in every other one a place of the right one has grown."""
    atlas, random = oblique_atlas((16, 18, 14), 3.0), np.random.default_rng(5)
    save_atlas(folder / "model" / "atlases" / atlas.name, atlas)
    (folder / "model" / "weights.safetensors").write_bytes(b"")
    grid = Grid.of(atlas.image)
    place = grid.points_mm(np.argwhere(sitk.GetArrayFromImage(atlas.labels) == 1).mean(axis=0)[None])[0]
    mirror = sitk.AffineTransform([-1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 2, 3])
    for n in range(count):
        moved = [wobble(grid, random), wobble(grid, random) + growth(grid, place, 0.25 * (n % 2))]
        write_both_sides(folder / f"s{n}", atlas, moved, [sitk.AffineTransform(3), mirror])
    rows = [("result", "group"), *((f"s{n}", "ab"[n % 2]) for n in range(count))]
    (folder / "scans.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    return place


@pytest.mark.parametrize("words", [(), ("--relative", "--tfce", "--permutations", 39)])
def test_of_both_sides_each_has_its_maps_and_its_structures_in_one_table(clmorph, tmp_path, words):
    place = both_sides(tmp_path)
    ran = run(clmorph, (tmp_path, None, None), tmp_path / "out", "--fwhm", 6, *words, design="group")
    assert ran.code == 0, ran.err
    assert "group: 0 voxels on the left side with p" in ran.out and "on the right side and 1 structure" in ran.out
    record = json.loads((tmp_path / "out" / "morphometry.json").read_text(encoding="utf-8"))
    left, right = record["terms"]
    assert (left["side"], right["side"]) == ("left", "right") and left["voxels"] == right["voxels"]
    assert left["significant_voxels"] == 0 and right["peaks"][0]["structure"] == "Right left"  # of the atlas' "Left"
    assert right["peaks"][0]["t"] > 0 and distance(right["peaks"][0], place) < 8
    with (tmp_path / "out" / "structures.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["structure"] for row in rows] == ["Left left", "Left right", "Right left", "Right right"]
    assert [float(row["p"]) < 0.05 for row in rows] == [False, False, True, False]
    assert (tmp_path / "out" / "group_right_t.nii.gz").exists() and not (tmp_path / "out" / "group_t.nii.gz").exists()
    page = (tmp_path / "out" / "report.html").read_text(encoding="ascii")
    assert "left side" in page and page.count("Volumes of the labels") == 1


def test_results_of_another_atlas_and_of_both_kinds_are_refused_in_one_line(clmorph, cohort, tmp_path):
    folder, _, _ = cohort
    other = oblique_atlas()
    named = tuple(replace(s, name=f"Other {s.name}") for s in other.structures)
    save_atlas(tmp_path / "model" / "atlases" / other.name, replace(other, structures=named))
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"")
    ran = run(clmorph, cohort, tmp_path / "out", "--model", tmp_path / "model")
    assert ran.code == 2 and "s0 has structures that the atlas ellipsoids does not have (" in ran.err
    assert ran.err.count("\n") == 1 and not (tmp_path / "out").exists()
    both_sides(tmp_path / "both", 2)
    mixed = [f"{tmp_path / 'both' / 's0'},a", *(f"s{n},{'ab'[n % 2]}" for n in range(6))]
    (folder / "mixed.csv").write_text("\n".join(["result,group", *mixed]) + "\n", encoding="utf-8")
    ran = run(clmorph, cohort, tmp_path / "out", design="group", table="mixed.csv")
    assert ran.code == 2 and "scans of several kinds ('both sides, one organ')" in ran.err


def test_too_few_permutations_for_any_significance_are_told(clmorph, cohort, tmp_path):
    ran = run(clmorph, cohort, tmp_path / "out", "--permutations", 9, design="group")
    assert ran.code == 0 and "9 permutations give no p below 0.05" in ran.err
