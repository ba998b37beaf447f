"""Slicer's own names and colours of anatomy, by the SNOMED CT code of a structure."""

from __future__ import annotations

import slicer

CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"  # the default one, which Slicer ships


def standard_looks() -> dict[str, tuple[str, tuple[float, float, float]]]:
    """Code value -> (name, RGB 0..1) of each type in Slicer's list of general anatomy; empty where it is not loaded."""
    logic = slicer.modules.terminologies.logic()
    category, kind, looks = slicer.vtkSlicerTerminologyCategory(), slicer.vtkSlicerTerminologyType(), {}
    for nth in range(max(logic.GetNumberOfCategoriesInTerminology(CONTEXT), 0)):
        logic.GetNthCategoryInTerminology(CONTEXT, nth, category)
        for number in range(logic.GetNumberOfTypesInTerminologyCategory(CONTEXT, category)):
            logic.GetNthTypeInTerminologyCategory(CONTEXT, category, number, kind)
            color = tuple(part / 255 for part in kind.GetRecommendedDisplayRGBValue())
            looks.setdefault(kind.GetCodeValue(), (kind.GetCodeMeaning(), color))
    return looks


def with_standard_looks(structures: list[dict], *, colors: bool = True) -> list[dict]:
    """Structures of a report, those with a code of Slicer's list by its name and colour.

    A side stands behind the name, as in Slicer's own ("Thalamus, Left"). Where two structures would come to the same
    name, both keep their own. Without ``colors`` all keep their colours.
    """
    looks = standard_looks()
    wanted = [_standard(structure, looks) for structure in structures]
    names = [structure["name"] for structure in wanted]
    chosen = [new if names.count(new["name"]) == 1 else old for new, old in zip(wanted, structures, strict=True)]
    return chosen if colors else [new | {"color": old["color"]} for new, old in zip(chosen, structures, strict=True)]


def _standard(structure: dict, looks: dict) -> dict:
    code = structure["terminology"].split("^")[1:2]
    if not code or code[0] not in looks:
        return structure
    name, rgb = looks[code[0]]
    side = structure["name"].partition(" ")[0]
    if side in ("Left", "Right") and not name.startswith(side):
        name = f"{name}, {side}"
    color = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
    return {**structure, "name": name, "color": color}
