"""What ``clmorph plan`` chooses for the shipped organs beside their recipes, made by hand.

``python -m Training.plans ORGAN=MANIFEST.csv … --minutes M -o plans.md``: nothing is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from CLMorphCore.arguments import kinds
from CLMorphCore.atomic import atomic_write
from CLMorphCore.bundles.config import load_config, to_dict
from CLMorphCore.devices import choose_device, use_threads
from CLMorphCore.errors import InputError
from CLMorphCore.io.layouts import find_scans
from CLMorphCore.training.plan import Choice
from CLMorphCore.training.run import plan_scans
from Training.command_line import exit_code
from Training.markdown import table

RECIPES = Path(__file__).with_name("recipes")
HEAD = """# Plans of the shipped organs

What `clmorph plan` chooses from the scans, beside the recipe that the shipped model was trained by. Made by
`python -m Training.plans`, without training; what both reached in the same minutes is in `trained.md`. Bold is what
differs.
"""


def side_by_side(choices: Sequence[Choice], recipe: Mapping[str, Any]) -> str:
    """A table of a plan's choices that a recipe has too: setting, recipe, plan, why."""
    lines = []
    for choice in choices:
        section, key = choice.key.split(".")
        if key not in recipe.get(section, {}):
            continue
        own, planned = (_shown(value) for value in (recipe[section][key], choice.value))
        mark = "**" if own != planned else ""
        lines.append((choice.key, own, f"{mark}{planned}{mark}", choice.reason.replace("|", "\\|")))
    return table(("setting", "recipe", "plan", "why"), lines)


def _shown(value: Any) -> str:
    """One number for three alike."""
    if isinstance(value, list | tuple):
        each = [_shown(one) for one in value]
        return each[0] if len(each) == 3 and len(set(each)) == 1 else " ".join(each)
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Plans and writes; returns 0, or 2 for bad input, which is told in one line."""
    options = _parser().parse_args(arguments)
    return exit_code("plans", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    use_threads(options.threads)
    device, parts = choose_device("cpu"), [HEAD]
    for given in options.organs:
        organ, _, manifest = given.partition("=")
        if not manifest or not (RECIPES / organ / "config.toml").exists():
            raise InputError(f"{given}: expected ORGAN=MANIFEST.csv of an organ with a recipe")
        recipe = to_dict(load_config(RECIPES / organ / "config.toml"))
        plan, _ = plan_scans(find_scans(Path(manifest)), minutes=options.minutes, device=device, name=organ)
        parts.append(f"## {organ}\n\n{plan.about}; {options.minutes:g} minutes on this device's CPU\n")
        parts.append(f"{side_by_side(plan.choices, recipe)}\n")
        print(f"{organ}: planned", flush=True)
    with atomic_write(options.output) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m Training.plans", description="Plans beside recipes, as a table.")
    add = parser.add_argument
    add("organs", nargs="+", metavar="ORGAN=MANIFEST.csv", help="of a recipe, and its scans")
    add("--minutes", type=float, default=60.0, help="of a training (default: 60)")
    add("--threads", type=kinds.threads)
    add("-o", "--output", type=Path, required=True, metavar="FILE.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
