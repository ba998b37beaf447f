"""Fitting and measuring the quality score: ``python -m Training.quality fit|measure --model M --data manifest.csv``.

``fit`` writes MODEL/quality.toml from the subjects of the splits train and validation, each as it is and as it might
have been scanned, and prints how it does on each of them left out. ``measure`` prints how the fit that is there does on
a split: Spearman's correlation of expected and true Dice over structures and subjects, and how many of deliberately
spoilt cases are flagged (Training/spoil.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.stats import spearmanr

from CLMorphCore.atomic import atomic_write
from CLMorphCore.bundles.model import Model, load_model
from CLMorphCore.devices import use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.io.images import read_image
from CLMorphCore.io.manifest import Subject, read_manifest, read_subject
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.quality.evidence import Evidence, evidence
from CLMorphCore.quality.score import Quality, fit, read_quality, write_quality
from CLMorphCore.quality.uncertainty import alternative_displacements
from CLMorphCore.registration import Registration, register
from Training.spoil import SPOILERS, Case, as_scanned, failed_affine, wrong_header, wrong_organ

GENUINE = "genuine"


@dataclass(frozen=True)
class Seen:
    """One case: its evidence, None where the engine refused it, and its Dice (K,), None where there are no labels."""

    subject: str
    kind: str
    evidence: Evidence | None
    dice: np.ndarray | None


def look(model: Model, case: Case, subject: str, kind: str, *, labelled: bool) -> tuple[Seen, Registration | None]:
    """Registers a case as ``segment`` would and keeps its evidence and Dice."""
    atlas = model.atlases[0]
    values = [s.value for s in atlas.structures]
    try:
        registration = register(case.image, atlas.image, model, affine=case.affine, moving_labels=atlas.labels)
        found = evidence(registration, atlas.labels, values, alternative_displacements(model, registration))
    except InputError:  # said in words, so it cannot be missed
        return Seen(subject, kind, None, None), None
    if not labelled:
        return Seen(subject, kind, found, None), registration
    labels = sitk.Cast(registration.warp(atlas.labels, labels=True), sitk.sitkInt32)
    dice = dice_per_label(labels, sitk.Cast(case.labels, sitk.sitkInt32), values)
    return Seen(subject, kind, found, np.array([dice[v] for v in values])), registration


def genuine_and_spoilt(
    model: Model, subject: Subject, others: Sequence[Path], seed: int, *, spoil: bool
) -> Iterator[Seen]:
    """The subject as it is, as it might have been scanned and, with ``spoil``, in every spoilt way.

    ``others`` are images of other organs.
    """
    image, labels = read_subject(subject)
    case, random = Case(image, labels if labels is not None else image), np.random.default_rng(seed)
    seen, registration = look(model, case, subject.name, GENUINE, labelled=labels is not None)
    yield seen
    yield look(model, as_scanned(case, random), subject.name, GENUINE, labelled=labels is not None)[0]
    if not spoil or registration is None:
        return
    # Where axis is laid on axis, whatever the header calls them, a wrong one spoils nothing.
    cases = {
        name: spoiler(case, random)
        for name, spoiler in SPOILERS.items()
        if not (model.config.by_centres and spoiler is wrong_header)
    }
    cases["failed affine"] = failed_affine(case, random, registration.affine)
    if others:
        cases["wrong organ"] = wrong_organ(case, read_image(others[int(random.integers(len(others)))]))
    for name, spoilt in cases.items():
        yield look(model, spoilt, subject.name, name, labelled=False)[0]


def correlation(pairs: Sequence[tuple[Quality, Seen]]) -> float:
    """Spearman's correlation of expected and true Dice over structures and subjects."""
    expected, true = [], []
    for quality, seen in pairs:
        found = quality.expected_dice(seen.evidence)
        for value, dice in zip(seen.evidence.values, seen.dice, strict=True):
            if value in found and not np.isnan(dice):
                expected.append(found[value])
                true.append(dice)
    return float(spearmanr(expected, true).statistic)


def figures(pairs: Sequence[tuple[Quality, Seen]]) -> dict[str, float]:
    """Correlation, mean error, false alarms and the share of each kind of spoilt case that is flagged."""
    labelled = [(q, s) for q, s in pairs if s.kind == GENUINE and s.dice is not None]
    table = {"subjects": len({s.subject for _, s in labelled}), "spearman": correlation(labelled)}
    table["mean_error"] = float(
        np.mean([np.nanmean(list(q.expected_dice(s.evidence).values())) - np.nanmean(s.dice) for q, s in labelled])
    )
    for kind in sorted({s.kind for _, s in pairs}, key=lambda k: k != GENUINE):
        odd = [s.evidence is None or q.outlier_score(s.evidence) > 1 for q, s in pairs if s.kind == kind]
        table["false alarms" if kind == GENUINE else f"flagged: {kind}"] = float(np.mean(odd))
    spoilt = [s.evidence is None or q.outlier_score(s.evidence) > 1 for q, s in pairs if s.kind != GENUINE]
    if spoilt:
        table["flagged"] = float(np.mean(spoilt))
    return {name: round(value, 4) for name, value in table.items()}


def fitted(atlas: str, seen: Iterable[Seen]) -> Quality:
    """The fit to cases: the genuine ones with their Dice, and the spoilt ones."""
    there = [s for s in seen if s.evidence is not None]
    return fit(
        atlas,
        [(s.evidence, s.dice) for s in there if s.kind == GENUINE],
        [s.evidence for s in there if s.kind != GENUINE],
    )


def left_out(atlas: str, seen: Sequence[Seen]) -> list[tuple[Quality, Seen]]:
    """Each case with the fit to all cases of other subjects."""
    fits = {name: fitted(atlas, (s for s in seen if s.subject != name)) for name in {s.subject for s in seen}}
    return [(fits[s.subject], s) for s in seen]


def main() -> None:
    """The command."""
    options = _parser().parse_args()
    use_threads(options.threads)
    model = load_model(options.model)
    splits = ("train", "validation") if options.verb == "fit" else (options.split,)
    subjects = [s for s in read_manifest(options.data) if s.split in splits]
    subjects = subjects[:: -(-len(subjects) // options.most)] if options.most else subjects
    others = [s.image for s in read_manifest(options.others) if s.split in splits] if options.others else []
    seen = []
    for n, subject in enumerate(subjects):
        seen += genuine_and_spoilt(model, subject, others, n, spoil=n % options.spoil_every == 0)
        print(f"{n + 1}/{len(subjects)} {subject.name}", flush=True)
    atlas = model.atlases[0].name
    if options.verb == "fit":
        write_quality(options.output or model.folder / "quality.toml", fitted(atlas, seen))
        pairs = left_out(atlas, seen)
    else:
        quality = read_quality(model.folder)
        if quality is None:
            raise SystemExit(f"model {model.name} has no quality.toml; make it with python -m Training.quality fit")
        pairs = [(quality, s) for s in seen]
    text = json.dumps(figures(pairs), indent=1)
    print(text)
    if options.figures is not None:
        with atomic_write(options.figures) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m Training.quality", description=__doc__.partition("\n")[0])
    parser.add_argument("verb", choices=("fit", "measure"))
    parser.add_argument("--model", required=True, help="name or folder of a model")
    parser.add_argument("--data", required=True, type=Path, metavar="MANIFEST.csv")
    parser.add_argument("--others", type=Path, metavar="MANIFEST.csv", help="images of another organ, same splits")
    parser.add_argument("--split", default="test", help="of measure (default: test)")
    parser.add_argument("--most", type=int, metavar="N", help="about so many subjects, evenly spaced (default: all)")
    parser.add_argument("--spoil-every", type=int, default=1, metavar="N", help="spoil every Nth subject (default: 1)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, help="of fit (default: MODEL/quality.toml)")
    parser.add_argument("--figures", type=Path, metavar="JSON", help="file for what is printed")
    return parser


if __name__ == "__main__":
    main()
