"""``clmorph models``: what ships."""

from __future__ import annotations

import sys
from argparse import Namespace

from ..bundles.model import bundled_models, model_folder, models_without_weights, read_card
from ..console import say
from ..progress import Reporter


def run(options: Namespace, reporter: Reporter) -> None:
    """Lists the bundled models, and the systems that need no weights."""
    for name in bundled_models():
        card = read_card(model_folder(name)).get("model", {})
        reporter.event("model", **card | {"name": name})
        if reporter.kind != "json":
            lines = (f"{name:<14} {card.get('title', '')}", f"{'':<14} {card.get('purpose', '')}")
            say("\n".join((*lines, f"{'':<14} licence: {card.get('licence', '')}")), sys.stdout)
    for name, title in models_without_weights().items():
        reporter.event("model", name=name, title=title)
        if reporter.kind != "json":
            say(f"{name:<14} {title}", sys.stdout)
