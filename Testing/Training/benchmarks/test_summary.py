"""The page's figures are those of the rows: means, ratios and tests over the pairs that both systems have."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wilcoxon

from CLMorphCore.errors import InputError
from Training.benchmarks.results import FAILED, OK, BenchmarkRow, ResultsFile, read_results
from Training.benchmarks.summary import p_value, save_summary, table

CLMORPH = [
    BenchmarkRow(
        "brain",
        f"s{n}",
        "atlas",
        "clmorph",
        "{}",
        2,
        OK,
        dice_affine=0.4,
        dice=0.6 + 0.01 * n,
        seconds=2.0,
        hd95_mm=3.0,
        folding_fraction=0.0,
        log_jacobian_sd=0.1,
        inverse_error_mm=0.05,
        seconds_import=1.0,
        peak_mb=500.0,
        machine="a processor",
        commit="abc",
    )
    for n in range(6)
]
GREEDY = [
    replace(row, system="greedy", dice=row.dice - 0.02 - 0.002 * n, seconds=50.0, inverse_error_mm=float("nan"))
    for n, row in enumerate(CLMORPH)
]


def cells(text, system):
    line = next(line for line in text.splitlines() if line.startswith(f"| {system} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_line_is_of_its_rows():
    found = cells(table([*CLMORPH, *GREEDY]), "greedy")
    dice = [row.dice for row in GREEDY]
    assert found[1] == "6" and found[2] == f"{np.mean(dice):.3f} ± {np.std(dice, ddof=1):.3f}"
    assert found[6] == "" and found[7] == "50.00 ± 0.00" and found[8] == "25" and found[11] == "-0.025"
    assert found[12] == f"{wilcoxon([a.dice - b.dice for a, b in zip(GREEDY, CLMORPH, strict=True)]).pvalue:.2g}"
    assert cells(table(CLMORPH), "affine only")[2] == "0.400 ± 0.000"


def test_ratios_are_over_the_pairs_that_both_have():
    slow = replace(GREEDY[0], seconds=1000.0)
    lacking = [replace(CLMORPH[0], status=FAILED, reason="it died"), *CLMORPH[1:]]
    assert cells(table([*lacking, slow, *GREEDY[1:]]), "greedy")[8] == "25"
    assert cells(table([*lacking, *GREEDY]), "clmorph")[1] == "5 of 6"


def test_every_reason_is_on_the_page_and_there_is_a_picture(tmp_path):
    failed = [replace(row, status=FAILED, reason=f"{7 - n} slices are too few") for n, row in enumerate(GREEDY)]
    page = save_summary([*CLMORPH, *failed], tmp_path)
    assert "- greedy, 6 pairs: failed: 7 slices are too few" in page and "machine a processor" in page
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == page
    assert (tmp_path / "brain.png").read_bytes().startswith(b"\x89PNG")


def test_without_any_figure_there_is_a_page_and_no_picture(tmp_path):
    page = save_summary([replace(GREEDY[0], status=FAILED, reason="it died")], tmp_path)
    assert "it died" in page and not (tmp_path / "brain.png").exists()


def test_equal_systems_have_no_p():
    assert p_value([0.0, 0.0]) == ""


def test_rows_read_back(tmp_path):
    results = ResultsFile(tmp_path / "results.csv")
    for row in [*CLMORPH[:2], replace(GREEDY[0], settings='{"options": "-n 1x2, 3"}', reason="a, b\nc")]:
        results.add(row)
    again = ResultsFile(tmp_path / "results.csv")
    assert repr(list(again.rows.values())) == repr(list(results.rows.values()))
    assert all(again.done(row.key) for row in CLMORPH[:2]) and not again.done(CLMORPH[2].key)


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no results file"):
        read_results(tmp_path / "results.csv")
