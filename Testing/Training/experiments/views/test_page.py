"""The report needs nothing from outside, names what is missing, and shows no subject whose images may not be shown."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import synthetic

from CLMorphCore.errors import InputError
from Training.experiments.catalogue import Budget
from Training.experiments.report import main as report_main
from Training.experiments.tables import TableRow
from Training.experiments.views import short_tables
from Training.experiments.views.page import write_report, write_view

SYSTEMS = {"syn": 0.6, "clmorph": 0.75, "unet": 0.85}


def results_in(folder):
    """Three systems and two parts of the ablation on the hippocampus, one system on the heart."""
    random = np.random.default_rng(0)
    for system, level in SYSTEMS.items():
        synthetic.add_run(
            folder, system, random.normal(level, 0.02, (6, 2)), example=synthetic.example(24, deforms=system != "unet")
        )
    for variant in ("recon+smooth", "recon+smooth+contrast"):
        synthetic.add_run(folder, "clmorph", random.normal(0.7, 0.02, (6, 2)), variant, example=synthetic.example(24))
    synthetic.add_run(folder, "clmorph", [[0.8, 0.7]], dataset="acdc", example=synthetic.example(24))
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    write_report(
        results_in(folder / "results"), folder / "report", ["hippocampus", "acdc", "lpba40"], slices_of=["hippocampus"]
    )
    return folder / "report"


def test_is_one_page_with_its_files_beside_it(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|<script|<link|url\(", outside) and html.isascii()
    names = {path.name for path in report.iterdir()}
    assert {
        "table1.csv",
        "table2.csv",
        "table3.csv",
        "table4.csv",
        "statistics-hippocampus.csv",
        "statistics-acdc.csv",
    } <= names
    assert {f"figure{n}-hippocampus.png" for n in (2, 4, 5, 6, 7)} <= names
    assert all((report / name).stat().st_size > 5000 for name in names if name.endswith(".png"))


def test_rows_that_were_not_trained_name_no_device():
    """Of systems without weights, under the budget of runs that this table does not have."""
    of_budget = {"device": "cpu", "train_steps": 0, "processes": 1}
    row = TableRow("table2", "acdc", "syn", "paper", "SyN", "run", cost=of_budget)
    trained = replace(row, cost={**of_budget, "train_steps": 9})
    assert short_tables._trained(Budget(30.0), [row]) == "Training: 30 min of one core. "
    assert short_tables._trained(Budget(30.0), [row, trained]) == "Training: 30 min of one core (cpu). "
    beside = replace(trained, cost={**trained.cost, "processes": 2})
    assert short_tables._trained(Budget(3.0, "cuda"), [beside]) == (
        "Training: 3 min on a GPU (cpu, up to 2 trainings side by side). "
    )


@pytest.mark.parametrize("option", ["--datasets", "--pictures-of"])
def test_a_report_of_an_unknown_data_set_is_refused(tmp_path, capsys, option):
    synthetic.add_run(tmp_path, "clmorph", [[0.7, 0.8]])
    assert report_main([str(tmp_path), option, "hippo"]) == 2
    said = capsys.readouterr().err
    assert said == "report: unknown data set 'hippo'; did you mean hippocampus?\n"
    assert not (tmp_path / "report").exists()


def test_the_tables_are_there_in_short_for_a_readme(report):
    text = (report / "tables.md").read_text(encoding="utf-8")
    overview, *each = text.split("\n## ")[1:]
    assert "| system | Hippocampus | paper | ACDC | paper |" in overview and "| 0.750 | 0.810 |" in overview
    lines = [line for line in "\n".join(each).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines if "CLMorph" in line or "VoxelMorph" in line} == {9}
    with (report / "table1.csv").open(newline="", encoding="utf-8") as file:
        row = next(
            r
            for r in csv.DictReader(file)
            if (r["dataset"], r["system"], r["region"]) == ("hippocampus", "clmorph", "all")
        )
    start = f"| CLMorph | {float(row['dice']):.3f} ± {float(row['dice_sd']):.3f} |"
    assert any(line.startswith(start) for line in lines)
    assert "LPBA40" not in text  # nothing was run there


def test_no_slices_of_subjects_that_may_not_be_shown(report):
    assert not (report / "figure4-acdc.png").exists() and not (report / "figure5-acdc.png").exists()
    assert "licence does not allow" in (report / "report.html").read_text(encoding="utf-8")


def test_names_what_was_not_run(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    hippocampus, acdc = html.split('<section id="')[1:3]
    assert re.search(r'<tr class="missing"><td>LapIRN</td><td class="number">not run</td>', hippocampus)
    assert "Nothing was run" in html.split('<section id="lpba40"')[1]
    assert "Paper: Dice" in acdc and "0.810" in acdc and "Paper: Dice" not in hippocampus
    assert "Not drawn" in acdc  # the grids with and without contrast


def test_the_best_of_the_unsupervised_is_bold(report):
    html = (report / "report.html").read_text(encoding="utf-8")
    table = html.split("Table I: segmentation")[1].split("</table>")[0]
    rows = dict(re.findall(r"<tr><td>([^<]+)</td>(.*?)</tr>", table))
    assert 'class="best"' in rows["CLMorph"]
    assert 'class="best"' not in rows["U-Net (supervised)"] + rows["SyN"]


@pytest.mark.parametrize(
    ("view", "files"),
    [
        ("table1", ["table1.csv"]),
        ("table4", ["table4.csv"]),
        ("statistics", ["statistics-acdc.csv"]),
        ("figure8", ["figure8-acdc.png"]),
        ("figure7", []),
    ],
)
def test_one_view_alone(view, files, tmp_path):
    for variant in ("paper", "alpha=1,beta=0.01"):
        synthetic.add_run(tmp_path / "results", "clmorph", [[0.8, 0.7]], variant, dataset="acdc")
    made = write_view(tmp_path / "results", tmp_path / "out", view, ["acdc"])
    assert [path.name for path in made] == ([] if view == "table1" else files)
    assert all(path.exists() for path in made)


def test_unknown_views_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="table1"):
        write_view(tmp_path, tmp_path / "out", "table11", ["acdc"])
    with pytest.raises(InputError, match="no finished run"):
        write_report(tmp_path, tmp_path / "out", ["acdc"])
    assert not (tmp_path / "out").exists()
