"""Manifest of the shipped model "heart", ACDC's subjects: ``python -m Training.recipes.heart.prepare DATA CSV``."""

from __future__ import annotations

from Training.recipes.acdc.prepare import main
from Training.recipes.manifest import command_line

if __name__ == "__main__":
    command_line(main)
