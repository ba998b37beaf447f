"""The page of all settings of a training, from the dataclasses and the remarks beside their fields."""

from __future__ import annotations

import ast
import inspect
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from CLMorphCore.bundles import config
from CLMorphCore.networks import NETWORKS

KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One setting as a file has it: its whole name, what it may be, its default and what it means."""

    name: str
    kind: str
    default: str
    meaning: str


def settings_page() -> str:
    """Every section, then every network's own."""
    parts = [
        "# Settings",
        "Of `clmorph train CONFIG.toml --data MANIFEST.csv`, of `--set SECTION.KEY=VALUE` and of the plan that "
        "`clmorph plan` writes: a TOML file with these tables, of which any may be left out. Defaults are the paper's; "
        "a network of another paper has that paper's, named with it. Lists along the axes are x, y, z. Generated from "
        "the dataclasses that read them.",
    ]
    for section, kind in get_type_hints(config.Config).items():
        if section != "network":
            parts += [f"## [{section}]", _about(kind), *map(_entry, settings_of(kind, section))]
    parts += ["## [network]", "`name` chooses the network; the other settings of the table are its own."]
    for name, system in NETWORKS.items():
        parts += [f"### {name}", _system(name)]
        parts += map(_entry, settings_of(system.settings, "network"))
    return "\n\n".join(parts) + "\n"


def settings_of(kind: type, section: str) -> Iterator[Setting]:
    """The settings of one dataclass."""
    said, hints = remarks(kind), get_type_hints(kind)
    own = kind()
    for name, hint in hints.items():
        full = f"{section}.{name}"
        value = getattr(own, name)
        if full in config.PER_AXIS:
            value = value[::-1]
        yield Setting(full, _kind(full, hint), _toml(value), said.get(name, ""))


def remarks(kind: type) -> dict[str, str]:
    """What the comment behind or above each field of a dataclass says."""
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    body = ast.parse("\n".join(lines)).body[0]
    assert isinstance(body, ast.ClassDef)
    said = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno:
            behind = lines[node.end_lineno - 1].encode()[node.end_col_offset or 0 :].decode()
            above, line = [], node.lineno - 2
            while lines[line].strip().startswith("#"):
                above.insert(0, lines[line].strip().lstrip("# "))
                line -= 1
            said[node.target.id] = " ".join([*above, behind.strip().lstrip("# ")]).strip()
    return said


def _kind(name: str, hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f"`{each}`" for each in get_args(hint))
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        count = "" if kinds[-1] is Ellipsis else f"{len(kinds)} "
        return f"{count}{KINDS[kinds[0]]}s{_bound(name)}"
    return f"{KINDS[hint]}{_bound(name)}"


def _bound(name: str) -> str:
    if name in config.POSITIVE:
        return " above 0"
    return ", 0 or more" if name in config.NOT_NEGATIVE else ""


def _toml(value: Any) -> str:
    """The value as a file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
    assert tomllib.loads(f"v = {text}")["v"] == (list(value) if isinstance(value, tuple) else value)
    return text


def _entry(setting: Setting) -> str:
    return f"`{setting.name.partition('.')[2]} = {setting.default}`\n: *{setting.kind}*. {setting.meaning}"


def _about(kind: type) -> str:
    text = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
    return text


def _system(name: str) -> str:
    """What a system is, from its module's first sentence, and the settings of its paper elsewhere."""
    system = NETWORKS[name]
    about = inspect.cleandoc(inspect.getmodule(system.settings).__doc__ or "").partition("\n\n")[0].replace("``", "`")
    paper = [
        f"`{section}.{key} = {_toml(_listed(value))}`"
        for section, own in system.paper.items()
        for key, value in own.items()
    ]
    return about + (f"\n\nDefaults of its paper: {', '.join(paper)}." if paper else "")


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
