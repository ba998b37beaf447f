"""Everything of the site that is not written by hand, into docs/generated."""

from __future__ import annotations

import shutil

from . import benchmarks, commands, copies, models, schema, settings
from .places import GENERATED


def generate() -> None:
    """Makes docs/generated anew."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    copies.copy_pages()
    for name, text in (
        ("commands", commands.commands_page()),
        ("settings", settings.settings_page()),
        ("report-schema", schema.schema_page()),
        ("models", models.models_page(GENERATED)),
        ("benchmarks", benchmarks.benchmarks_page()),
    ):
        (GENERATED / f"{name}.md").write_text(text, encoding="utf-8")
