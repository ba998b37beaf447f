"""The plan of a model: every setting with its reason, in a TOML file that its user edits and passes on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..atomic import atomic_write
from ..bundles.config import Config, check_trainable, from_dict, in_file, to_dict
from ..errors import SettingError, did_you_mean
from ..io.files import read_text, read_toml, short

HEAD = (
    "# Made by clmorph plan from the scans. Change what you know better, then: clmorph train DATA -o RUN --plan FILE\n"
)
OWN = {
    "atlas": ("subjects", "margin_mm"),
    "scans": ("leave_out",),
    "start": ("model",),
}  # sections that are not the training's
EVERY_STEP = 1_000_000  # more than the minutes allow
MAX_LINE = 120


@dataclass(frozen=True)
class Choice:
    """One setting, 'section.key', its value as files have it (x, y, z), and why it is so."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """How a model will be made.

    config           of the training; ``training.minutes`` is its part of the whole
    atlas_subjects   how many scans the average is made of, at most
    atlas_margin_mm  around the labels, which the atlas is cut to; 0 leaves it whole
    left_out         subject → why it is not used
    start            the model whose weights the training starts from, by its name or folder; empty: fresh weights
    choices          what was chosen, with reasons, and
    about            a line on the scans; empty in a plan that was read, which has its
    text             as its user left it
    """

    config: Config
    atlas_subjects: int
    atlas_margin_mm: float = 0.0
    left_out: Mapping[str, str] | None = None
    choices: tuple[Choice, ...] = ()
    about: str = ""
    text: str = ""
    start: str = ""


def plan_of(choices: Sequence[Choice], left_out: Mapping[str, str], about: str) -> Plan:
    """The plan that consists of these choices; SettingError where they do not fit together."""
    tree: dict[str, dict[str, Any]] = {}
    for choice in choices:
        section, _, key = choice.key.partition(".")
        tree.setdefault(section, {})[key] = choice.value
    atlas, start = tree.pop("atlas"), tree.pop("start", {})
    config = from_dict(tree)
    check_trainable(config)
    choices, given = tuple(choices), start.get("model", "")
    return Plan(config, atlas["subjects"], atlas["margin_mm"], dict(left_out), choices, about, start=given)


def starting_from(plan: Plan, given: str, reason: str) -> Plan:
    """A plan that was read and says nothing of a start, with one."""
    text = f"{plan.text.rstrip()}\n\n[start]\n{_setting('model', given, reason)}\n"
    return replace(plan, start=given, text=text)


def differing(plan: Plan, other: Plan) -> list[str]:
    """The settings in which two plans differ, 'section.key', but for the model that they start from."""
    one, two = (to_dict(each.config) for each in (plan, other))
    keys = dict.fromkeys((section, key) for tree in (one, two) for section, table in tree.items() for key in table)
    names = [".".join(key) for key in keys if _of(one, *key) != _of(two, *key)]
    names += ["atlas.subjects"] * (plan.atlas_subjects != other.atlas_subjects)
    names += ["atlas.margin_mm"] * (plan.atlas_margin_mm != other.atlas_margin_mm)
    return names + ["scans.leave_out"] * (set(plan.left_out or ()) != set(other.left_out or ()))


def given_settings(plan: Plan) -> list[str]:
    """The settings of the training, 'section.key', that the plan's file gives; for all others the defaults hold."""
    tree = tomllib.loads(plan_text(plan))
    return [f"{section}.{key}" for section, table in tree.items() if section not in OWN for key in table]


def changed_since(plan: Plan, trained: Config, given: Sequence[str] = ()) -> list[str]:
    """The settings of a plan that was read which are other ones than a network was trained by.

    Looked at are those that the plan gives, and ``given``, those that it gave once: a default may be another one in
    another version.
    """
    now, then = to_dict(plan.config), to_dict(trained)
    keys = [(key, *key.partition(".")[::2]) for key in dict.fromkeys((*given_settings(plan), *given))]
    return [key for key, *where in keys if _of(now, *where) != _of(then, *where)]


def _of(tree: Mapping[str, Any], section: str, key: str) -> Any:
    return tree.get(section, {}).get(key)


def plan_text(plan: Plan) -> str:
    """The plan as TOML, each choice with its reason as a comment; one that was read, as it was read."""
    if plan.text:
        return plan.text
    lines = [HEAD + f"# {plan.about}"]
    section = ""
    for choice in plan.choices:
        name, _, key = choice.key.partition(".")
        if name != section:
            lines.append(f"\n[{name}]")
            section = name
        lines.append(_setting(key, choice.value, choice.reason))
    lines += [
        "\n[scans]",
        "# what is wrong with a scan; one that is good after all is taken out of the list",
        "leave_out = [",
    ]
    for subject, why in (plan.left_out or {}).items():
        lines.append(f"    {_toml(subject)},  # {' '.join(why.split())}")
    return "\n".join([*lines, "]", ""])


def _setting(key: str, value: Any, reason: str) -> str:
    line, comment = f"{key} = {_toml(value)}", " ".join(reason.split())
    beside = f"{line}  # {comment}"
    return beside if len(beside) <= MAX_LINE else f"# {comment}\n{line}"


def _toml(value: Any) -> str:
    """JSON's strings, numbers and lists are TOML's."""
    return json.dumps(value, ensure_ascii=False)


def write_plan(path: Path, plan: Plan) -> None:
    """The file that ``read_plan`` reads."""
    with atomic_write(path) as temporary:
        temporary.write_text(plan_text(plan), encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file, as ``plan_text`` writes it; sections may be left out. InputError for what is no plan."""
    tree = read_toml(path, "a plan, as clmorph plan writes it")
    with in_file(path):
        return replace(_plan(tree), text=read_text(path, "a plan"))


def _plan(tree: dict[str, Any]) -> Plan:
    """The plan in a file's tables, without its text."""
    for section, known in OWN.items():
        table = tree.get(section, {})
        if not isinstance(table, dict):
            raise SettingError(f"{section} is {short(table)}; expected a table [{section}] of settings")
        for key in table.keys() - set(known):
            raise SettingError(f"unknown setting {section}.{key}{did_you_mean(key, known)}")
    atlas, scans, start = (tree.pop(section, {}) for section in OWN)
    subjects, margin = atlas.get("subjects", 40), atlas.get("margin_mm", 0.0)
    if not isinstance(subjects, int) or isinstance(subjects, bool) or subjects < 1:
        raise SettingError(f"atlas.subjects is {short(subjects)}; expected a whole number above zero")
    if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 <= margin < 1e6:
        raise SettingError(f"atlas.margin_mm is {short(margin)}; expected a number of mm, zero or more")
    leave_out = scans.get("leave_out", [])
    if not isinstance(leave_out, list) or not all(isinstance(name, str) for name in leave_out):
        raise SettingError(f"scans.leave_out is {short(leave_out)}; expected a list of subjects")
    given = start.get("model", "")
    if not isinstance(given, str):
        raise SettingError(f"start.model is {short(given)}; expected a model's name or its folder")
    config = from_dict(tree)
    check_trainable(config)
    if not config.training.minutes and config.training.steps >= EVERY_STEP:
        raise SettingError(
            f"training.minutes is 0 and training.steps {config.training.steps}; expected minutes above zero, or "
            "a number of steps that comes to an end"
        )
    left_out = dict.fromkeys(leave_out, "the plan leaves it out")
    return Plan(config, subjects, float(margin), left_out, start=given)
