"""What the stages of a training were made by, written down, and whether its plan and its splits still say so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic import atomic_write
from ..errors import InputError
from ..io.files import read_json
from ..io.manifest import Subject
from .plan import Plan, given_settings

BEGINNING, ATLAS = "beginning.json", "atlas.json"  # a file for each stage, none of which changes later
MAX_NAMED = 3


def write_beginning(output: Path, plan: Plan, subjects: Sequence[Subject]) -> None:
    """What holds for the whole training: the scans that are left out, the start, the splits; and what the plan said."""
    splits = {subject.name: subject.split for subject in subjects}
    _write(output / BEGINNING, {"settings": _of_beginning(plan), "splits": splits, "given": given_settings(plan)})


def write_atlas_settings(output: Path, plan: Plan) -> None:
    """What the atlas is about to be made by."""
    _write(output / ATLAS, _of_atlas(plan))


def settings_at_beginning(output: Path) -> list[str]:
    """The settings 'section.key' that the plan gave when the training began; none where an earlier version began it."""
    given = _read(output / BEGINNING).get("given", [])
    return [key for key in given if isinstance(key, str)] if isinstance(given, list) else []


def check_beginning(output: Path, plan: Plan, subjects: Sequence[Subject], *, named: str, splits: str) -> None:
    """InputError where scans that are left out, the start or splits are other ones than when the training began.

    ``named`` is the file of the plan in ``output``, ``splits`` that of the scans in their splits.
    """
    then = _read(output / BEGINNING)
    if changed := _changed(then.get("settings"), _of_beginning(plan)):
        raise InputError(
            f"{output / named} was changed after the training began ({', '.join(changed)}); expected it as it was",
            "put it back, or train by it in another folder, with `plan`",
        )
    began = then.get("splits")
    began = began if isinstance(began, dict) else {}
    others = [s for s in subjects if began.get(s.name, s.split) != s.split]
    moved = [f"{s.name} is for {s.split}, it was for {began[s.name]}" for s in others]
    if moved:
        more = f" and {len(moved) - MAX_NAMED} more" if len(moved) > MAX_NAMED else ""
        raise InputError(
            f"{output / splits} was changed after the training began ({'; '.join(moved[:MAX_NAMED])}{more}); expected "
            "it as it was",
            "put it back, or train in another folder: this file is a manifest",
        )


def check_atlas(output: Path, plan: Plan, atlas: Path, *, named: str) -> None:
    """InputError where the folder ``atlas`` was made by other settings than the plan beside it has now."""
    if changed := _changed(_read(output / ATLAS), _of_atlas(plan)):
        raise InputError(
            f"{output / named} was changed after the atlas was made ({', '.join(changed)}); expected it as it was",
            f"put it back, or delete {atlas}: the atlas and what follows from it are then made anew",
        )


def _of_beginning(plan: Plan) -> dict[str, Any]:
    return {"scans.leave_out": sorted(plan.left_out or {}), "start.model": plan.start}


def _of_atlas(plan: Plan) -> dict[str, Any]:
    return {"atlas.subjects": plan.atlas_subjects, "atlas.margin_mm": plan.atlas_margin_mm}


def _changed(then: Any, now: dict[str, Any]) -> list[str]:
    """The settings whose values are other ones; what was not written down is not known to be."""
    return [key for key, value in now.items() if isinstance(then, dict) and then.get(key, value) != value]


def _read(path: Path) -> dict[str, Any]:
    """What is written down; nothing in the folder of an earlier version's training."""
    tree = read_json(path, "what a stage of a training was made by") if path.exists() else {}
    return tree if isinstance(tree, dict) else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
