"""One self-contained HTML page about all results, with its tables, figures and statistics as files beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from CLMorphCore.atomic import atomic_folder
from CLMorphCore.errors import InputError, did_you_mean
from CLMorphCore.reports import page

from .. import statistics, tables
from ..catalogue import AS_PUBLISHED, CONTRAST, PYRAMID_ABLATION, TABLE3, WEIGHT_GRID, covers, title_of
from ..findings import Findings, findings_of
from ..measures import select
from ..store import Results, Run, load
from . import csv_tables, figures, html_tables, short_tables, slices
from .figures import DARK, LIGHT, Palette

DPI = 110
# what is compared with each other, and so has one training time
COMPARED = (AS_PUBLISHED, TABLE3, tuple(PYRAMID_ABLATION), tuple(CONTRAST), tuple(WEIGHT_GRID.values()))
STYLE = """
.plot{margin:14px 0 22px}.plot img{display:block;width:auto;max-width:100%;height:auto;margin:0 auto}
.best{font-weight:700}.sd,.paper{color:var(--soft)}td.number{white-space:nowrap}
h3{font-size:1rem;margin:24px 0 2px}nav a{margin-right:14px;color:var(--accent)}
"""
Draw = Callable[[Results, str, Palette], Figure | None]


@dataclass(frozen=True)
class Drawing:
    """A figure: how it is drawn, what it is called, and whether it shows a subject's slices."""

    draw: Draw
    caption: str
    shows_subjects: bool = False


_BOXES = (
    "Each box holds the middle half of the test subjects, its line the median; whiskers reach up to 1.5 box "
    "lengths, dots lie beyond. Blue: CLMorph; orange: supervised; grey: the others."
)
FIGURES: Mapping[str, Drawing] = {
    "figure2": Drawing(figures.boxes, _BOXES),
    "figure3": Drawing(figures.boxes, _BOXES),
    "figure4": Drawing(
        slices.labels,
        "Labels of one test subject, the manual ones first; beside each plane the part in "
        "which the systems disagree most.",
        shows_subjects=True,
    ),
    "figure5": Drawing(
        slices.warped,
        "The atlas image warped onto one test subject, under the outlines of its manual "
        "labels; beside each plane the part in which the systems differ most.",
        shows_subjects=True,
    ),
    "figure6": Drawing(
        figures.significance,
        "Paired Wilcoxon tests over the test subjects, corrected by Bonferroni for "
        "the pairs within each metric. The number is the median difference of row and column.",
    ),
    "figure7": Drawing(
        slices.grids,
        "A regular grid of the atlas as the deformation carries it, without and with the "
        "contrastive term (first seed).",
    ),
    "figure8": Drawing(
        figures.weights,
        "Mean Dice over the test subjects for the weights of smoothness and contrast; "
        "bold: the best, and the paper's choice (α = 1, β = 0.01).",
    ),
}


def write_report(
    results_folder: Path, out_folder: Path, datasets: Sequence[str], *, slices_of: Collection[str] | None = None
) -> None:
    """Writes report.html, tables.md, tableN.csv, figureN-DATASET.png and statistics-DATASET.csv, all or none.

    ``slices_of`` are the data sets whose subjects may be shown (default: all): figures 4 and 5 of others are not drawn.
    InputError where the results hold no run.
    """
    results = load(results_folder)
    if not results.runs:
        raise InputError(f"{results_folder} holds no finished run; run an experiment first, with this folder as output")
    findings = [findings_of(results, dataset) for dataset in datasets]
    with atomic_folder(out_folder) as folder:
        for name in tables.TABLES:
            _write_table(folder, name, [row for of_one in findings for row in of_one.tables.get(name, [])])
        body = [_header(results, datasets)]
        for of_one in findings:
            _write_statistics(folder, of_one.dataset, of_one.tests)
            shown = slices_of is None or of_one.dataset in slices_of
            body.append(_section(results, of_one, folder, slices=shown))
        (folder / "tables.md").write_text(short_tables.text(findings), encoding="utf-8")
        html = page.page("The paper's experiments", "\n".join(body), STYLE)
        (folder / "report.html").write_text(html, encoding="utf-8")


def write_view(results_folder: Path, out_folder: Path, view: str, datasets: Sequence[str]) -> list[Path]:
    """Writes one table ('table1'), figure ('figure6') or the 'statistics', and returns the files that were made."""
    results = load(results_folder)
    if view not in (*tables.TABLES, *FIGURES, "statistics"):
        raise InputError(f"no view {view}{did_you_mean(view, (*tables.TABLES, *FIGURES, 'statistics'))}")
    with atomic_folder(out_folder) as folder:
        if view in tables.TABLES:
            _write_table(
                folder,
                view,
                [row for dataset in datasets if covers(view, dataset) for row in tables.TABLES[view](results, dataset)],
            )
        for dataset in datasets:
            if view in FIGURES:
                _write_figure(results, view, dataset, folder)
            elif view == "statistics":
                _write_statistics(folder, dataset, statistics.all_tests(results, dataset))
        made = sorted(path.name for path in folder.iterdir())
    return [out_folder / name for name in made]


def _write_table(folder: Path, name: str, rows: Sequence[tables.TableRow]) -> None:
    if any(row.status == tables.RUN for row in rows):
        csv_tables.write_table(folder / f"{name}.csv", rows)


def _write_statistics(folder: Path, dataset: str, tests: Sequence[statistics.Comparison]) -> None:
    csv_tables.write_tests(folder / f"statistics-{dataset}.csv", tests)


def _write_figure(results: Results, name: str, dataset: str, folder: Path) -> bytes | None:
    """The figure's PNG for a light page, which is also written; None where there is nothing to draw."""
    picture = _png(FIGURES[name].draw(results, dataset, LIGHT))
    if picture is not None:
        (folder / f"{name}-{dataset}.png").write_bytes(picture)
    return picture


def _png(figure: Figure | None) -> bytes | None:
    if figure is None:
        return None
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def _header(results: Results, datasets: Sequence[str]) -> str:
    links = "".join(f'<a href="#{escape(dataset)}">{escape(title_of(dataset))}</a>' for dataset in datasets)
    text = (
        "Registration-based segmentation with CLMorph beside the systems that its paper compares with, on the same "
        "test subjects after the same training time. Figures are mean ± sample standard deviation. The paper's own "
        "stand beside ours where it has any; its data, training time and protocol differ, so compare the rows of "
        "our columns with each other, not ours with the paper's."
    )
    commits = {run.commit for run in results.runs}
    facts = page.facts(
        [
            ("Finished runs", str(len(results.runs)), "one row each in runs.csv"),
            ("Data sets", str(len(datasets)), ", ".join(map(title_of, datasets))),
            ("Commits", str(len(commits)), ", ".join(sorted(commits))),
        ]
    )
    return (
        f'<header><h1>The paper&#39;s experiments</h1><p class="soft">{escape(text)}</p><nav>{links}</nav>'
        f"</header>{facts}"
    )


def _section(results: Results, findings: Findings, folder: Path, *, slices: bool) -> str:
    dataset = findings.dataset
    parts = [f'<section id="{escape(dataset)}"><h2>{escape(title_of(dataset))}</h2>', _notes(results, dataset)]
    parts += [html_tables.html(name, rows) for name, rows in findings.tables.items()]
    parts.append(html_tables.statistics_html(findings.tests))
    parts += [_plot(results, name, dataset, folder, slices=slices) for name in FIGURES if covers(name, dataset)]
    return "\n".join(parts) + "</section>"


def _plot(results: Results, name: str, dataset: str, folder: Path, *, slices: bool) -> str:
    """A figure in both colours of the page, with its number and caption; a sentence where there is none."""
    drawing = FIGURES[name]
    head = f"<h3>Figure {name.removeprefix('figure')}</h3>"
    if drawing.shows_subjects and not slices:
        return f'{head}<p class="soft">Not shown: the data set\'s licence does not allow its images here.</p>'
    light = _write_figure(results, name, dataset, folder)
    if light is None:
        return f'{head}<p class="soft">Not drawn: not run, or too little of it.</p>'
    dark = _png(drawing.draw(results, dataset, DARK)) or light
    caption = escape(drawing.caption)
    return (
        f'{head}<figure class="plot"><picture><source media="screen and (prefers-color-scheme:dark)" '
        f'srcset="{_data(dark)}"><img alt="{caption}" src="{_data(light)}"></picture>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def _notes(results: Results, dataset: str) -> str:
    """Budgets, seeds, devices and commits of a data set's runs."""
    runs = [run for run in results.runs if run.dataset == dataset]
    if not runs:
        return '<div class="warning">Nothing was run on this data set.</div>'
    trained = [run for run in runs if run.train_steps]
    subjects = {row.subject for row in results.regions if row.run in {run.name for run in runs}}
    left_out = [name for variants in COMPARED for name in select(results, dataset, variants).left_out]
    warning = (
        '<div class="warning">Runs of another training time have tables of their own; figures and tests leave out: '
        f"{escape(', '.join(left_out))}</div>"
        if left_out
        else ""
    )
    return warning + page.facts(
        [
            ("Runs", str(len(runs)), f"{len(trained)} of them trained"),
            ("Test subjects", str(len(subjects)), ""),
            (
                "Training time",
                _distinct(trained, lambda run: str(run.budget)) or page.NO_FIGURE,
                "a run, the same within a table",
            ),
            ("Seeds", _distinct(runs, lambda run: str(run.seed)), ""),
            ("Device", _distinct(runs, lambda run: run.device), _distinct(runs, lambda run: f"threads: {run.threads}")),
            ("Commit", _distinct(runs, lambda run: run.commit), ""),
        ]
    )


def _distinct(runs: Sequence[Run], word: Callable[[Run], str]) -> str:
    return ", ".join(sorted({word(run) for run in runs}))
