"""The figures of today on the pages that also tell what was tried: of whole heads, and of the benchmarks' aims."""

from __future__ import annotations

import json
from statistics import mean

from Training.benchmarks.results import OK, read_results

from .figures import Sentences
from .places import RESULTS, ROOT
from .sources import mice, once, rows, short, tree

BENCHMARKS = RESULTS / "benchmarks"


def results() -> dict[str, Sentences]:
    """Of each page with such figures, by its path in the project."""
    return {
        "Training/results/heads/README.md": Sentences(tuple(_heads())),
        "Training/results/benchmarks/README.md": Sentences(tuple(_aims())),
    }


def _segment(scan: str, column: str) -> str:
    (found,) = [each for each in rows("Training/results/benchmarks/segment.csv") if each["scan"] == scan]
    return found[column]


def _heads() -> list[str]:
    brains, contrasts, sides = (tree(f"heads/{name}.json") for name in ("brains", "contrasts", "sides"))
    masks = [each["dice"] for name, each in brains.items() if name.startswith("ms3d/")]
    agree = {name: short(each["dice"]) for name, each in contrasts.items() if "brain" in name}
    found = [value for each in sides.values() if isinstance(each, dict) for value in each.values()]
    coarse, fine = "whole head in T1, 0.88 mm", "whole head in T1, 0.67 mm"
    return [
        f"Dice ≥ .93 | {short(min(masks))} to {short(max(masks))} |",
        f"≥ .95 | {short(brains['ch2']['dice'])}, missed",
        f"{brains['stripped']['left alone']} of {brains['stripped']['scans']}; 10 of 10",
        f"{agree['patient01 T2W brain']} and {agree['patient12 T2W brain']}, {agree['patient01 FLAIR brain']} and "
        f"{agree['patient12 FLAIR brain']}: missed by far",
        f"{short(sides['mean'])} ({short(min(found))} to {short(max(found))}), missed by {short(0.78 - sides['mean'])}",
        f"{_segment(coarse, 'seconds')} s, {_segment(coarse, 'peak_gb')} GB at 0.88 mm, met",
        f"{_segment(fine, 'seconds')} s and {_segment(fine, 'peak_gb')} GB at 0.67 mm, missed",
    ]


def _quality(model: str) -> dict[str, float]:
    path = ROOT / "Training" / "recipes" / model / "quality-test.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _brain(*, cortex: bool) -> str:
    """Mean Dice of the brain's test subjects over the labels of DKT31, or over all others."""
    measured = [each for each in rows("Training/recipes/brain/results-test.csv") if each["dice"]]
    return short(mean(float(each["dice"]) for each in measured if (int(each["value"]) // 1000 in (1, 2)) == cortex))


def _aims() -> list[str]:
    measured = [each for each in read_results(BENCHMARKS / "results.csv") if each.status == OK]

    def dice(dataset: str, system: str) -> str:
        return f"{mean(each.dice for each in measured if (each.dataset, each.system) == (dataset, system)):.3f}"

    def seconds(system: str) -> str:
        value = mean(each.seconds for each in measured if (each.dataset, each.system) == ("brain", system))
        return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"

    h, b, heart = "hippocampus", "brain", "heart"
    quality = {name: _quality(name) for name in (b, heart, h)}
    ranks = {name: f"{found['spearman']:.3f}" for name, found in quality.items()}
    flagged = {name: f"{100 * found['flagged']:g} %" for name, found in quality.items()}
    speed = json.loads((BENCHMARKS / "speed-h200.json").read_text(encoding="utf-8"))
    network, training = speed["network"], speed["training"]
    return [
        f"refined {dice(h, 'clmorph+refine')}; SyN {dice(h, 'syn')}, Greedy {dice(h, 'greedy')}, with OASIS settings "
        f"{dice(h, 'greedy-oasis')}",
        f"{dice(b, 'clmorph+refine')}; SyN {dice(b, 'syn')}, Greedy {dice(b, 'greedy-oasis')} | met",
        f"network alone, SyN | {dice(b, 'clmorph')}, SyN {dice(b, 'syn')} | missed by",
        f"refined {dice(heart, 'clmorph+refine')}, network {dice(heart, 'clmorph')}; best peer, demons, "
        f"{dice(heart, 'demons')}",
        f"{seconds('clmorph')}; {seconds('clmorph+refine')}; SyN {seconds('syn')}, Greedy {seconds('greedy')}, with "
        f"OASIS settings {seconds('greedy-oasis')} | met",
        f"{_segment('native T1 brain, 256×256×160', 'seconds')} s with the page",
        f"brain {ranks[b]}, {flagged[b]}; heart {ranks[heart]}, {flagged[heart]}; hippocampus {ranks[h]}, {flagged[h]}",
        f"cortex {_brain(cortex=True)}, all else {_brain(cortex=False)}",
        f"about {once('tissue of a brain')} s (`once.csv`) | missed",
        f"{once('native brain')} MB (`once.csv`) | met",
        f"mouse + .01 | {mice('one, lent', 'test')}, Greedy {mice('Greedy, one', 'test')} | missed by "
        f"{short(0.01 + float(mice('Greedy, one', 'test')) - float(mice('one, lent', 'test')))}: labels",
        f"labelled mice: Greedy + .01 | {mice('eleven, as it is made', 'test')}, Greedy "
        f"{mice('Greedy, eleven, as it is made', 'test')} | met",
        f"of fifteen {mice('fifteen, as it is made', 'test')}, Greedy {mice('Greedy, fifteen, as it is made', 'test')}",
        f"{network['seconds']:.3f} s; {training['seconds']:.2f} s in {training['peak_mb'] / 1000:.1f} GB",
    ]
