"""Manifest of the shipped model "heart", ACDC's subjects: ``python -m Training.recipes.heart.prepare DATA CSV``."""

from __future__ import annotations

from Training.manifest import command_line
from Training.recipes.acdc.prepare import main

if __name__ == "__main__":
    command_line(main)
