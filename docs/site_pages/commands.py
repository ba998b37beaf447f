"""The page of all commands and the table of exit codes, from the command line's own parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from CLMorphCore import cli

WIDTH = 92  # of a line of usage
COMMON = "how it runs"
EXIT_CODES = (
    (0, "done"),
    (cli.EXIT_BUG, "a defect of CLMorph, with its traceback"),
    (
        cli.EXIT_BAD_INPUT,
        "bad input: one line says what was given, what was expected and what to do; nothing was written",
    ),
    (cli.EXIT_SOME_FAILED, "`clmorph cohort`: scans failed, each with its line; the others have their results"),
    (cli.EXIT_CANCELLED, "cancelled; nothing was written"),
)


def verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb, in the order of the help."""
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


def commands_page() -> str:
    """All verbs with all their options; those that every verb has come once, at the end."""
    parser = cli.build_parser()
    parts = [
        "# Commands",
        "What `clmorph VERB --help` prints, generated from the command line's own parser.",
        _verbs(parser),
    ]
    for name, verb in verbs(parser).items():
        parts += [f"## clmorph {name}", _sentence(verb.description), _usage(verb)]
        for group in verb._action_groups:
            if group.title != COMMON and (listed := list(_options(group))):
                parts += [f"**{_title(group)}**", *listed]
    shared = next(iter(verbs(parser).values()))
    parts += ["## Options of every command"]
    parts += [option for group in shared._action_groups if group.title == COMMON for option in _options(group)]
    parts += ["## Exit codes", exit_codes()]
    return "\n\n".join(parts) + "\n"


def exit_codes() -> str:
    """A table of what the command's exit code says."""
    lines = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES]
    return "\n".join(["| exit code | meaning |", "|---|---|", *lines])


def _verbs(parser: argparse.ArgumentParser) -> str:
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    lines = [f"| [{each.dest}](#clmorph-{each.dest}) | {each.help} |" for each in action._choices_actions]
    return "\n".join(["| verb | what it is for |", "|---|---|", *lines])


def _usage(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)
    told = re.sub(r"\n +", "\n    ", parser.format_usage().removeprefix("usage: ").rstrip())
    return f"```text\n{told}\n```"


def _title(group: argparse._ArgumentGroup) -> str:
    title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "")
    return title[:1].upper() + title[1:]


def _options(group: argparse._ArgumentGroup) -> Iterator[str]:
    """A definition for each option of a group."""
    for action in group._group_actions:
        if not isinstance(action, argparse._HelpAction):
            yield f"`{_names(action)}`\n: {_meaning(action)}"


def _names(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return value
    return ", ".join(f"{name} {value}".rstrip() for name in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return f"{action.metavar} …" if action.nargs == "+" else action.metavar
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _meaning(action: argparse.Action) -> str:
    if action.help:
        return _sentence(_escaped(action.help % {"default": action.default, "prog": "clmorph"}))
    return f"One of {', '.join(map(str, action.choices))}; default {action.default}." if action.choices else "Needed."


def _escaped(text: str) -> str:
    """Text in which nothing is Markdown."""
    for mark in "\\*_`<>[]|$":
        text = text.replace(mark, f"\\{mark}")
    return text


def _sentence(text: str | None) -> str:
    text = (text or "").strip()
    return text if text.endswith((".", ")")) else f"{text}."
