"""Manifest of the Medical Segmentation Decathlon's task 4: ``python prepare.py Task04_Hippocampus manifest.csv``.

The folder holds imagesTr/, labelsTr/ and split.csv (subject, split); subjects that lack a file are listed.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def main(folder: Path, manifest: Path) -> None:
    with (folder / "split.csv").open(newline="") as file:
        rows = [{"subject": r["subject"], "image": (folder / "imagesTr" / f"{r['subject']}.nii.gz").resolve(),
                 "labels": (folder / "labelsTr" / f"{r['subject']}.nii.gz").resolve(), "split": r["split"]}
                for r in csv.DictReader(file)]
    missing = [str(r[kind]) for r in rows for kind in ("image", "labels") if not r[kind].exists()]
    if missing:
        raise SystemExit("missing files:\n" + "\n".join(missing))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("subject", "image", "labels", "split"))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
