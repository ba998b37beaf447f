"""What the recipes' ``prepare.py`` share: splits in, manifests out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

Row = tuple[str, Path, Path | None, str]  # subject, image, labels or None, split


def read_split(folder: Path) -> dict[str, str]:
    """subject → split, from split.csv in a data set's folder."""
    path = folder / "split.csv"
    if not path.exists():
        raise SystemExit(f"{path} does not exist; expected a data set with a CSV of the columns subject, split")
    with path.open(newline="", encoding="utf-8") as file:
        return {row["subject"]: row["split"] for row in csv.DictReader(file)}


def write_manifest(path: Path, rows: Sequence[Row]) -> None:
    """Writes a manifest; ends with the list of files that are missing, if any."""
    missing = [str(file) for _, image, labels, _ in rows for file in (image, labels) if file and not file.exists()]
    if missing:
        raise SystemExit(f"{len(missing)} files are missing:\n" + "\n".join(missing))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("subject", "image", "labels", "split"))
        writer.writerows((name, image.resolve(), labels.resolve() if labels else "", split)
                         for name, image, labels, split in rows)
