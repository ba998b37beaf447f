"""Tables are means and spreads as by hand, beside the paper's figures; what was not run has a row that says so."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from synthetic import measured, results_of, rows_of

from Training.experiments.catalogue import AS_PUBLISHED
from Training.experiments.measures import select
from Training.experiments.store import BY_PRODUCT
from Training.experiments.tables import ALL, NO_DEFORMATION, NOT_RUN, SEEDS, load_paper, table1, table2, table3, table4
from Training.experiments.views.csv_tables import flat, write_table
from Training.spread import Spread

DICE = [[0.8, 0.6], [0.9, 0.7], [0.7, 0.5]]  # means over regions: 0.7, 0.8, 0.6


def of(rows, system, region=ALL):
    return next(row for row in rows if (row.system, row.region) == (system, region))


def test_mean_and_deviation_over_subjects():
    rows = table1(results_of(measured("clmorph", DICE)), "hippocampus")
    whole, anterior = of(rows, "clmorph"), of(rows, "clmorph", "Anterior")
    assert whole.figures["dice"] == Spread(pytest.approx(0.7), pytest.approx(0.1), 3)
    assert anterior.figures["dice"] == Spread(pytest.approx(0.8), pytest.approx(0.1), 3)
    assert whole.figures["assd_mm"].mean == pytest.approx(0.6) and whole.subjects == 3
    assert whole.deformation["folding_percent"] == pytest.approx(0.1)
    assert whole.cost["train_minutes"] == 5 and whole.cost["seconds_per_pair"] == 0.5


def test_seeds_are_averaged_per_subject_before_the_spread():
    rows = table1(
        results_of(
            measured("clmorph", [[0.6, 0.6], [0.8, 0.8]]), measured("clmorph", [[0.8, 0.8], [0.6, 0.6]], seed=1)
        ),
        "hippocampus",
    )
    assert of(rows, "clmorph").figures["dice"] == Spread(pytest.approx(0.7), pytest.approx(0), 2)
    assert of(rows, "clmorph").seeds == (0, 1)


def test_a_system_that_was_not_run_has_a_row_that_says_so():
    rows = table1(results_of(measured("clmorph", DICE)), "hippocampus")
    whole = [row for row in rows if row.region == ALL]
    assert [row.system for row in whole] == [system for system, _ in AS_PUBLISHED]
    assert {row.status for row in whole if row.system != "clmorph"} == {NOT_RUN}
    assert math.isnan(flat(of(rows, "syn"))["dice"])


def test_missing_structures_are_counted_and_leave_no_distance():
    run, rows, deformations = measured("clmorph", [[0.0, 0.6]])
    lost = type(rows[0])(
        run.name, "segmentation", "subject0", 1, "Anterior", "missing in prediction", 0.0, math.nan, math.nan, math.nan
    )
    found = of(table1(results_of((run, [lost, rows[1]], deformations)), "hippocampus"), "clmorph")
    assert found.missing == 1 and found.figures["dice"].mean == pytest.approx(0.3)
    assert found.figures["hd_mm"].mean == pytest.approx(rows[1].hd_mm)


def test_the_by_product_has_its_own_rows_and_the_unet_none():
    run = synthetic.run_of("clmorph")
    both = (
        run,
        [*synthetic.rows_of(run, DICE), *synthetic.rows_of(run, np.array(DICE) - 0.1, direction="by-product")],
        [],
    )
    rows = table2(results_of(both, measured("unet", DICE)), "hippocampus")
    assert of(rows, "clmorph").figures["dice"].mean == pytest.approx(0.6)
    assert of(rows, "unet").status == NO_DEFORMATION and of(rows, "faim").status == NOT_RUN


def test_the_ablation_spreads_over_seeds_and_lists_each():
    results = results_of(
        *[
            measured("clmorph", np.array(DICE) + shift, "recon+smooth", seed=seed)
            for seed, shift in enumerate((-0.02, 0.0, 0.02))
        ],
        measured("clmorph", DICE, "recon"),
    )
    rows = [row for row in table3(results, "lpba40") if row.status != NOT_RUN]
    assert not rows
    rows = table3(results, "hippocampus")
    smooth = [row for row in rows if row.variant == "recon+smooth"]
    assert smooth[0].spread_over == SEEDS and smooth[0].seeds == (0, 1, 2)
    assert smooth[0].figures["dice"] == Spread(pytest.approx(0.7), pytest.approx(0.02), 3)
    assert [row.figures["dice"].mean for row in smooth[1:]] == pytest.approx([0.68, 0.7, 0.72])
    alone = next(row for row in rows if row.variant == "recon")
    assert alone.figures["dice"].mean == pytest.approx(0.7) and math.isnan(alone.figures["dice"].sd)
    assert sum(row.status == NOT_RUN for row in rows) == 5


def test_one_table_shows_one_training_time():
    results = results_of(
        measured("clmorph", DICE),
        measured("vtn", DICE),
        measured("syn", DICE),
        measured("clmorph", np.array(DICE) + 0.1, budget=60.0),
    )
    selection = select(results, "hippocampus", AS_PUBLISHED)
    assert selection.budget_minutes == 5 and selection.left_out == ("hippocampus/clmorph/paper/seed0/60min",)
    assert of(table1(results, "hippocampus"), "clmorph").figures["dice"].mean == pytest.approx(0.7)
    assert of(table1(results, "hippocampus"), "syn").status != NOT_RUN  # has nothing to train


def test_a_training_time_without_any_trained_system_of_a_table_has_none():
    """The U-Net has no by-product: of minutes that it alone was given only table I tells something."""
    both = [measured(system, DICE) for system in ("clmorph", "vtn", "syn")]
    swapped = [(run, rows_of(run, DICE, direction=BY_PRODUCT), []) for run, *_ in both]
    longer = measured("unet", DICE, budget=60.0)
    found = results_of(*both, longer)
    found = replace(found, regions=found.regions + tuple(row for _, rows, _ in swapped for row in rows))
    minutes = [{row.budget.minutes for row in table(found, "hippocampus")} for table in (table1, table2)]
    assert minutes == [{5.0, 60.0}, {5.0}]


def test_the_papers_figures_stand_beside_ours():
    results = results_of(measured("clmorph", DICE, dataset="acdc"))
    row = of(table4(results, "acdc"), "clmorph")
    assert row.paper["dice"] == Spread(0.810, 0.05) and row.paper["assd_mm"].mean == 1.482
    assert of(table4(results, "acdc"), "lvm-s3").paper["hd_mm"].mean == 9.90
    assert not of(table1(results_of(measured("clmorph", DICE)), "hippocampus"), "clmorph").paper


def test_the_papers_figures_are_its_tables():
    paper = load_paper()
    assert paper["table1", "lpba40", "clmorph", "hd_mm"] == Spread(10.38, 2.59)
    assert paper["table2", "mindboggle101", "clmorph", "dice"] == Spread(0.631, 0.05)
    assert paper["table3", "mindboggle101", "recon+smooth+byol", "assd_mm"] == Spread(0.894, 0.10)
    counts = {table: sum(key[0] == table for key in paper) for table in ("table1", "table2", "table3", "table4")}
    assert counts == {"table1": 48, "table2": 16, "table3": 38, "table4": 12}


def test_csv_has_empty_cells_where_there_is_no_figure(tmp_path):
    write_table(tmp_path / "table1.csv", table1(results_of(measured("clmorph", [[0.5, 0.7]])), "hippocampus"))
    with (tmp_path / "table1.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["system"], row["region"]): row for row in csv.DictReader(file)}
    assert rows["clmorph", "all"]["dice"] == "0.6" and rows["clmorph", "all"]["dice_sd"] == ""
    assert rows["faim", "all"]["status"] == "not run" and rows["faim", "all"]["dice"] == ""


def test_the_system_itself_is_the_ablations_row_with_all_terms():
    results = results_of(measured("clmorph", DICE), measured("clmorph-byol", DICE))
    done = {row.title for row in table3(results, "hippocampus") if row.status != NOT_RUN}
    assert done == {"recon+smooth+contrast", "recon+smooth+byol"}
