"""The tools that are compared, by the name that tables and ``--system`` call them: how each is run and read.

These are whole programs on the same two files; the networks that the experiments train are in their catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from CLMorphCore.errors import InputError, did_you_mean
from CLMorphCore.geometry import Grid

from .fields import Maps, read_itk_fields, read_transforms, read_voxels

OWN = "run_clmorph.py"


@dataclass(frozen=True)
class Tool:
    """One line of the tables: a program with its settings.

    runner    the script below runners/
    package   what ``--python`` calls the Python that has it
    read      the runner's output folder and the fixed image's grid → Maps
    settings  of the runner; ``by_dataset`` replaces some of them for a data set
    """

    runner: str
    package: str
    read: Callable[[Path, Grid], Maps]
    settings: Mapping[str, Any]
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings_for(self, dataset: str) -> dict[str, Any]:
        """The settings on a data set."""
        return {**self.settings, **self.by_dataset.get(dataset, {})}


def _clmorph(*arguments: str, model: str | None = None) -> Tool:
    """A network of this project; without ``model`` the shipped one that has the data set's name."""
    shipped = {name: {"model": name} for name in ("hippocampus", "brain", "heart")}
    return Tool(
        OWN, "clmorph", read_transforms, {"model": model, "arguments": list(arguments)}, {} if model else shipped
    )


def _greedy(options: str, heart: str) -> Tool:
    return Tool("run_greedy.py", "greedy", read_itk_fields, {"options": options}, {"heart": {"options": heart}})


def _ants(name: str) -> Tool:
    return Tool("run_ants.py", "ants", read_itk_fields, {"type_of_transform": name})


# Hearts have 6 to 18 slices: Greedy works in the slices' planes there (-z), with fewer levels; FireANTs too has fewer.
TOOLS: dict[str, Tool] = {
    "clmorph": _clmorph(),
    "clmorph+refine": _clmorph("--refine", "60"),
    "voxelmorph": replace(_clmorph(), by_dataset={}),
    "syn": _ants("antsRegistrationSyN[so]"),
    "syn-quick": _ants("antsRegistrationSyNQuick[so]"),
    "greedy": _greedy("-m NCC 2x2x2 -n 100x50x10", "-m NCC 2x2x2 -n 100x50 -z"),
    "greedy-oasis": _greedy("-m WNCC 2x2x2 -n 100x100x40 -s 1.5mm 0.5mm", "-m WNCC 2x2x2 -n 100x100 -s 1.5mm 0.5mm -z"),
    "convexadam": Tool("run_convexadam.py", "convexadam", read_voxels, {}),
    "fireants": Tool(
        "run_fireants.py", "fireants", read_itk_fields, {"scales": [4, 2, 1], "iterations": [200, 100, 50]}
    ),
    "demons": Tool(
        "run_demons.py",
        "demons",
        read_itk_fields,
        {"shrink": [4, 2, 1], "iterations": [60, 40, 20], "sigma_voxels": 1.5},
    ),
}


def chosen_tools(names: list[str], models: Mapping[str, str], arguments: Mapping[str, list[str]]) -> dict[str, Tool]:
    """The tools of those names, all by default, with the models and command-line arguments given for some of them.

    Raises InputError for an unknown name, and for a model or arguments of a tool that is not CLMorph's.
    """
    for name in (*names, *models, *arguments):
        if name not in TOOLS:
            raise InputError(f"unknown system {name!r}{did_you_mean(name, TOOLS)}")
    for name in (*models, *arguments):
        if TOOLS[name].runner != OWN:
            raise InputError(
                f"{name} takes no model and no arguments; expected one of "
                f"{', '.join(n for n, s in TOOLS.items() if s.runner == OWN)}"
            )
    chosen = {name: TOOLS[name] for name in names or TOOLS}
    for name, folder in models.items():
        if name in chosen:
            model = str(Path(folder).resolve()) if Path(folder).is_dir() else folder
            given = {**chosen[name].settings, "model": model}
            chosen[name] = replace(chosen[name], settings=given, by_dataset={})
    for name, words in arguments.items():
        if name in chosen:
            chosen[name] = replace(chosen[name], settings={**chosen[name].settings, "arguments": words})
    return chosen
