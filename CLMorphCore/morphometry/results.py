"""The files of a study: maps, tables, one record in JSON and the page, all or none."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..atomic import atomic_folder
from ..errors import InputError
from ..io.checksums import seal
from ..io.images import write_image
from ..io.outputs import check_results
from ..io.tables import escaped
from .design import Design
from .page import study_page
from .statistics import Tested, effect_name
from .study import Study
from .volumes import ONE

RECORD = "morphometry.json"
MAPS = ("t", "p", "effect")


def names_of(design: Design, sides: Sequence[str] = ONE) -> tuple[str, ...]:
    """All files of a study; InputError where two terms would have one file."""
    stems = [file_stem(term.name, side) for term in design.terms for side in sides]
    if len({stem.casefold() for stem in stems}) < len(stems):
        raise InputError(
            f"`design={design.formula}`: two terms would have files of one name; expected names that differ in letters "
            "and digits",
            "rename a column",
        )
    maps = [f"{stem}_{kind}.nii.gz" for stem in stems for kind in MAPS]
    return (*maps, "mask.nii.gz", "structures.csv", "report.html", RECORD)


def file_stem(name: str, side: str = "") -> str:
    """A column's name as files can be called: letters, digits, - and _; with the side, where there are two."""
    stem = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", name)).strip("_")[:60] or "term"
    return f"{stem}_{side}" if side else stem


def save(study: Study, folder: Path, table: Path) -> None:
    """Writes the files of ``names_of`` into ``folder``; OutputError where that fails or would replace others."""
    names = names_of(study.design, study.sides)
    check_results(folder, names, certificates=[RECORD], record=RECORD)
    with atomic_folder(folder, certificate=RECORD) as temporary:
        for result in study.results:
            stem = file_stem(result.voxels.term.name, result.side)
            for kind, image in zip(MAPS, (result.t, result.p, result.effect), strict=True):
                write_image(image, temporary / f"{stem}_{kind}.nii.gz")
        write_image(study.mask, temporary / "mask.nii.gz")
        _write_structures(study, temporary / "structures.csv")
        (temporary / "report.html").write_text(study_page(study), encoding="utf-8")
        record = json.dumps(_record(study, table), indent=1, ensure_ascii=False)
        (temporary / RECORD).write_text(record, encoding="utf-8")
        seal(temporary, folder, names, RECORD)


def _write_structures(study: Study, path: Path) -> None:
    heads = ("term", "contrast", "value", "structure", "mean_ml", "t", "p", "effect", "low", "high", "effect_is")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        for result in study.results:
            if result.side != study.sides[0]:  # whose structures are in the same test
                continue
            test = result.structures
            words = escaped(test.term.name), escaped(test.term.contrast)
            for n, structure in enumerate(study.structures):
                numbers = _rounded([study.mean_ml[n], test.t[n], test.p[n], test.effect[n], test.low[n], test.high[n]])
                writer.writerow((*words, structure.value, escaped(structure.name), *numbers, effect_name(test.term)))


def _record(study: Study, table: Path) -> dict[str, Any]:
    settings = study.settings
    return {
        "version": __version__,
        "model": study.model,
        "atlas": study.atlas.name,
        "table": str(table),
        "design": study.design.formula,
        "scans": study.scans,
        "degrees_of_freedom": study.design.freedom,
        "volumes": "relative" if settings.relative else "total",
        "fwhm_mm": settings.fwhm_mm,
        "mask": study.mask_is,
        "permutations": settings.permutations,
        "seed": settings.seed,
        "corrected_by": "tfce" if settings.tfce else "max-t",
        "terms": [_of_term(result.voxels, result.peaks, result.side) for result in study.results],
        "warnings": list(study.warnings),
    }


def _of_term(test: Tested, peaks: Sequence[Any], side: str) -> dict[str, Any]:
    p = test.p if test.p_tfce is None else test.p_tfce
    return {
        "term": test.term.name,
        "contrast": test.term.contrast,
        **({"side": side} if side else {}),
        "effect_is": effect_name(test.term),
        "smallest_p": float(p.min()),
        "significant_voxels": int((p < 0.05).sum()),
        "voxels": len(p),
        "peaks": [vars(peak) for peak in peaks],
    }


def _rounded(numbers: Sequence[float]) -> list[str]:
    return [f"{float(number):.6g}" for number in numbers]
