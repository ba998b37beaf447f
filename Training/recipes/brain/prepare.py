"""Manifest of skull-stripped T1 brains: ``python prepare.py DATA manifest.csv``.

DATA/Mindboggle101 (OASIS-TRT-20) gives images and DKT31 + subcortical labels, split by its split.csv; DATA/MICCAI2012
adds images without labels to the training. Its subjects 1101 and 1104 stay out: they are for trying a finished model.
"""

from __future__ import annotations

import sys
from pathlib import Path

from Training.manifest import Row, read_split, write_manifest

IMAGE = "t1weighted_brain.MNI152Affine.nii.gz"
LABELS = "labels.DKT31.manual+aseg.MNI152Affine.nii.gz"
HELD_OUT = ("1101", "1104")


def main(data: Path, manifest: Path) -> None:
    mindboggle = data / "Mindboggle101"
    volumes = mindboggle / "OASIS-TRT-20_volumes"
    rows: list[Row] = [(name, volumes / name / IMAGE, volumes / name / LABELS, split)
                       for name, split in read_split(mindboggle).items()]
    rows += [(folder.name, folder / IMAGE, None, "train") for folder in sorted((data / "MICCAI2012").iterdir())
             if folder.is_dir() and folder.name not in HELD_OUT]
    write_manifest(manifest, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
