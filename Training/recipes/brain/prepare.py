"""Manifest of skull-stripped T1 brains: ``python prepare.py Mindboggle101 MICCAI2012 manifest.csv``.

OASIS-TRT-20 (Mindboggle101) gives images and DKT31 + subcortical labels, split by its split.csv; MICCAI2012 adds images
without labels to the training. Its subjects 1101 and 1104 stay out, they are for trying a finished model.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HELD_OUT = ("1101", "1104")


def main(mindboggle: Path, miccai: Path, manifest: Path) -> None:
    volumes = mindboggle / "OASIS-TRT-20_volumes"
    with (mindboggle / "split.csv").open(newline="") as file:
        rows = [{"subject": r["subject"], "image": volumes / r["subject"] / "t1weighted_brain.MNI152Affine.nii.gz",
                 "labels": volumes / r["subject"] / "labels.DKT31.manual+aseg.MNI152Affine.nii.gz",
                 "split": r["split"]} for r in csv.DictReader(file)]
    unlabelled = [folder for folder in sorted(miccai.iterdir()) if folder.is_dir() and folder.name not in HELD_OUT]
    rows += [{"subject": folder.name, "image": folder / "t1weighted_brain.MNI152Affine.nii.gz", "labels": "",
              "split": "train"} for folder in unlabelled]
    missing = [str(r[kind]) for r in rows for kind in ("image", "labels") if r[kind] and not r[kind].exists()]
    if missing:
        raise SystemExit("missing files:\n" + "\n".join(missing))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("subject", "image", "labels", "split"))
        writer.writeheader()
        writer.writerows({k: v.resolve() if isinstance(v, Path) else v for k, v in row.items()} for row in rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
